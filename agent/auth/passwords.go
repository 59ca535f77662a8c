package auth

import (
	_ "embed"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Bounds of a password, in characters.
const (
	leastPassword = 12
	mostPassword  = 256
)

// common are passwords that are tried first and are long enough otherwise, one a line,
// in small letters.
//
//go:embed common.txt
var common string

// tried tells whether a password is one of the common ones. It is asked seldom: a table of
// them would lie in memory all the time.
func tried(password string) bool {
	return !strings.Contains(password, "\n") && strings.Contains("\n"+common+"\n", "\n"+password+"\n")
}

// checkPassword refuses a new password that is too short or easy to guess. There are no
// rules on which characters it is made of, and it does not run out.
//
// Source: NIST SP 800-63B, section 5.1.1.2: length, Unicode, and comparison with what is
// commonly used, repetitive or sequential characters, and the names of user and service.
func checkPassword(name, password string) error {
	if tooLong(password) {
		return refusedPassword(fmt.Sprintf("has more than %d characters", mostPassword))
	}
	n := utf8.RuneCountInString(normal(password))
	switch {
	case !utf8.ValidString(password) || strings.ContainsFunc(password, unicode.IsControl):
		return refusedPassword("has characters that cannot be typed")
	case n < leastPassword || n > mostPassword:
		return refusedPassword(fmt.Sprintf("has %d characters; %d at least and %d at most are needed", n, leastPassword, mostPassword))
	case tried(strings.ToLower(normal(password))):
		return refusedPassword("is one of those that are tried first")
	case plain(normal(password)):
		return refusedPassword("repeats itself or counts")
	case utf8.RuneCountInString(without(password, name, "hyper2kvm", "password")) < leastPassword/2:
		return refusedPassword("is little more than a name")
	}
	return nil
}

func refusedPassword(why string) error {
	return fmt.Errorf("%w: the new password %s", ErrInput, why)
}

// tooLong tells of what no password can be, before it is worked on.
func tooLong(password string) bool { return len(password) > mostPassword*utf8.UTFMax }

// normal is a password in one form, however the keyboard put its characters together.
//
// Source: NIST SP 800-63B, section 5.1.1.2: "NFKC or NFKD".
func normal(password string) string { return norm.NFKC.String(password) }

// leastVariety is of different characters, and of different steps from one to the next.
const (
	leastVariety = 5
	leastSteps   = 3
)

// plain tells whether a password has few different characters, or goes through them in
// a few even steps, as 123456789012 does.
func plain(password string) bool {
	chars, steps := map[rune]bool{}, map[rune]bool{}
	var before rune
	for i, r := range password {
		chars[r] = true
		if i > 0 {
			steps[r-before] = true
		}
		before = r
	}
	return len(chars) < leastVariety || len(steps) < leastSteps
}

// without is a password in small letters without some words.
func without(password string, words ...string) string {
	rest := strings.ToLower(normal(password))
	for _, w := range words {
		if w != "" {
			rest = strings.ReplaceAll(rest, w, "")
		}
	}
	return rest
}
