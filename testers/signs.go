package testers

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Sign is a known text seen on the serial console or on the text screen.
type Sign struct {
	Name  string    `json:"name"`
	Where string    `json:"where"` // serial or screen
	Line  string    `json:"line"`
	Fatal bool      `json:"fatal"` // the boot does not go on after it
	At    time.Time `json:"at"`
	Note  string    `json:"note,omitempty"` // what was done about it
}

// String is a sentence for people.
func (s Sign) String() string {
	text := fmt.Sprintf("%s on %s: %q", s.Name, s.Where, s.Line)
	if s.Note != "" {
		text += "; " + s.Note
	}
	return text
}

// Emergency tells whether the guest's systemd waits for an administrator: the
// probe then runs, and can tell why.
func (s Sign) Emergency() bool { return s.Name == "emergency-mode" || s.Name == "maintenance-prompt" }

// LoginPrompt is the sign of a guest that came up. It proves nothing: anyone
// can print it.
const LoginPrompt = "login-prompt"

type knownText struct {
	name  string
	fatal bool
	text  *regexp.Regexp
}

// known are the texts, each with where it comes from. What is not fatal tells
// an operator something but may be followed by a good boot.
var known = []knownText{
	{"kernel-panic", true, regexp.MustCompile(`Kernel panic - not syncing`)},                     // Linux, kernel/panic.c
	{"root-not-mounted", true, regexp.MustCompile(`VFS: Unable to mount root fs`)},               // Linux, init/do_mounts.c
	{"root-not-found", true, regexp.MustCompile(`ALERT! .*does not exist.*Dropping to a shell`)}, // initramfs-tools, scripts/local
	{"initramfs-shell", true, regexp.MustCompile(`^\(initramfs\)`)},                              // busybox in initramfs-tools
	{"dracut-shell", true, regexp.MustCompile(`^dracut:/# |Entering emergency mode`)},            // dracut, emergency.service
	{PassphrasePrompt, true, asksPassphrase},
	{"maintenance-prompt", true, regexp.MustCompile(`Give root password for maintenance|\(or press Control-D to continue\)`)}, // sulogin
	{"emergency-mode", true, regexp.MustCompile(`You are in (emergency|rescue) mode`)},                                        // systemd, sulogin-shell
	{"grub-rescue", true, regexp.MustCompile(`^grub rescue>`)},                                                                // GRUB, kern/rescue_reader.c
	{"grub-shell", true, regexp.MustCompile(`^grub>`)},                                                                        // GRUB, normal/main.c
	{"no-bootable-device", true, regexp.MustCompile(`No bootable device`)},                                                    // SeaBIOS, boot.c
	{"no-uefi-boot-option", true, regexp.MustCompile(`BdsDxe: No bootable option or device was found|^Shell> `)},              // EDK II
	{"grub-no-such-device", false, regexp.MustCompile(`error: no such device`)},                                               // GRUB, kern/disk.c; a search hint may follow
	{"boot-failed", false, regexp.MustCompile(`Boot failed`)},                                                                 // SeaBIOS; the next disk may boot
	{"init-missing", false, regexp.MustCompile(`Target filesystem doesn't have requested|Cannot find init!`)},                 // initramfs-tools, init; dracut, init.sh; another may be found
	{"dracut-timeout", false, regexp.MustCompile(`dracut-initqueue.* timeout`)},                                               // dracut; a degraded array may follow
	{LoginPrompt, false, regexp.MustCompile(`\S+ login: *$`)},                                                                 // agetty
}

// controls are terminal escape sequences (ECMA-48) and what else is not text.
var controls = regexp.MustCompile("\x1b\\[[0-?]*[ -/]*[@-~]|\x1b[^\\[]|[\x00-\x08\x0b-\x1f\x7f]")

// Plain is terminal output as lines of text.
func Plain(raw string) string {
	raw = strings.ReplaceAll(raw, "\r\n", "\n")
	return controls.ReplaceAllString(strings.ReplaceAll(raw, "\r", "\n"), "")
}

// Signs finds the known texts in plain text, each once.
func Signs(text, where string, at time.Time) []Sign {
	var found []Sign
	for _, k := range known {
		for line := range strings.Lines(text) {
			line = strings.TrimRight(line, "\n")
			if k.text.MatchString(line) {
				found = append(found, Sign{Name: k.name, Where: where, Line: clip(line), Fatal: k.fatal, At: at})
				break
			}
		}
	}
	return found
}

// Fatal is the first sign that a boot does not go on after.
func Fatal(signs []Sign) (Sign, bool) {
	for _, s := range signs {
		if s.Fatal {
			return s, true
		}
	}
	return Sign{}, false
}

func clip(line string) string {
	line = strings.TrimSpace(line)
	return strings.ToValidUTF8(line[:min(len(line), 200)], "?")
}
