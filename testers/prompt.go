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

// aside are lines that others write to a console on which a prompt stands: the
// kernel's messages and systemd's progress.
//
// Source: Linux, kernel/printk/printk.c, print_time; systemd, src/core/show-status.c.
var aside = regexp.MustCompile(`^\s*(\[ *[0-9]+\.[0-9]{6}\] .*|\[( {2}OK {2}|FAILED|DEPEND| INFO |[ *]{6})\] .*|(Start|Mount|Stopp|Activat)ing .*)?$`)

// Prompt finds the last passphrase prompt in the text of a console. asked is how many
// there are, and stands whether nobody has answered it: nothing follows but what is
// written beside it.
func Prompt(text string) (line string, asked int, stands bool) {
	for l := range strings.Lines(text) {
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
