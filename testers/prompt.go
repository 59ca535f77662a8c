package testers

import (
	"regexp"
	"strings"
)

// PassphrasePrompt is the sign of a guest that waits for somebody to type what opens
// an encrypted device.
const PassphrasePrompt = "passphrase-prompt"

// asksPassphrase are the prompts of initrds, in the order of their sources.
//
// Source: cryptsetup-initramfs, scripts/local-top/cryptroot; systemd,
// src/cryptsetup/cryptsetup.c, get_password; cryptsetup, src/utils_tools.c, and what
// dracut, 90crypt/cryptroot-ask.sh, has it ask.
var asksPassphrase = regexp.MustCompile(`Please unlock disk |nter passphrase( or recovery key)? for (disk |/dev/)`)

// kernelMessage comes between whatever else is written to a console, in the middle of a
// prompt too. Source: Linux, kernel/printk/printk.c, print_time.
var kernelMessage = regexp.MustCompile(`\[ *[0-9]+\.[0-9]{6}\] [^\n]*(\n|$)`)

// aside are lines of systemd's progress, while somebody is asked.
// Source: systemd, src/core/show-status.c and manager_print_jobs_in_progress.
var aside = regexp.MustCompile(`^\s*(\[( {2}OK {2}|FAILED|DEPEND| INFO |[ *]{6})\] .*|(Start|Mount|Stopp|Activat)ing .*)?$`)

// Prompt finds the last passphrase prompt in the text of a console. asked is how many
// there are, and stands whether nothing follows but what is written beside it: nobody
// has answered it, if the text is in the order in which it was written.
func Prompt(text string) (line string, asked int, stands bool) {
	for l := range strings.Lines(kernelMessage.ReplaceAllString(text, "")) {
		l = strings.TrimRight(l, "\n")
		switch at := asksPassphrase.FindStringIndex(l); {
		case at != nil:
			line, asked, stands = clip(l[at[0]:]), asked+1, true
		case !aside.MatchString(l):
			stands = false
		}
	}
	return line, asked, stands
}
