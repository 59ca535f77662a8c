package testers

import (
	"strings"
	"testing"
)

func TestAPromptStandsUntilItIsAnswered(t *testing.T) {
	const ask = "Please unlock disk sda2_crypt: "
	for _, c := range []struct {
		text, line string
		asked      int
		stands     bool
	}{
		{"", "", 0, false},
		{"[    1.0] sda: sda1 sda2\n" + ask, "Please unlock disk sda2_crypt:", 1, true},
		{ask + "[    7.123456] random: crng init done\n", "Please unlock disk sda2_crypt:", 1, true},
		{ask + "\n[    7.123456] random: crng init done\n\n", "Please unlock disk sda2_crypt:", 1, true},
		{"\U0001f510 Please enter passphrase for disk QEMU_HARDDISK (data): (press TAB for no echo) \n[  OK  ] Reached target Paths.\n         Starting Plymouth...\n",
			"nter passphrase for disk QEMU_HARDDISK (data): (press TAB for no echo)", 1, true},
		{"Please enter pas[    2.948528] scsi 1:0:0:0: CD-ROM            QEMU\nsphrase for disk root: (press TAB for no echo) [   11.785057] scsi 34:0:0:0: Direct-Access",
			"nter passphrase for disk root: (press TAB for no echo)", 1, true},
		{"Please enter passphrase for disk root: \n[  **  ] Job systemd-cryptsetup@root.service/start running (9s / no limit)\n", "nter passphrase for disk root:", 1, true},
		{"Please enter passphrase or recovery key for disk root: ", "nter passphrase or recovery key for disk root:", 1, true},
		{"Enter passphrase for /dev/disk/by-uuid/0f: ", "nter passphrase for /dev/disk/by-uuid/0f:", 1, true},
		{ask + "\ncryptsetup: sda2_crypt: set up successfully\n", "Please unlock disk sda2_crypt:", 1, false},
		{ask + "\ncryptsetup: ERROR: sda2_crypt: cryptsetup failed, bad password or options?\n" + ask, "Please unlock disk sda2_crypt:", 2, true},
		{ask + "\nBusyBox v1.35.0\n(initramfs) ", "Please unlock disk sda2_crypt:", 1, false},
		{ask + "\nvault01 login: ", "Please unlock disk sda2_crypt:", 1, false},
		{"root@vault01:~# ", "", 0, false},
	} {
		line, asked, stands := Prompt(c.text)
		if line != c.line || asked != c.asked || stands != c.stands {
			t.Errorf("Prompt(%q) = %q, %d, %v, want %q, %d, %v", c.text, line, asked, stands, c.line, c.asked, c.stands)
		}
	}
}

func FuzzPrompt(f *testing.F) {
	f.Add("Please unlock disk sda2_crypt: [    7.123456] random: crng init done\n")
	f.Fuzz(func(t *testing.T, text string) {
		if line, asked, stands := Prompt(text); (asked == 0) != (line == "" && !stands) || len(line) > 600 {
			t.Errorf("Prompt(%q) = %q, %d, %v", text, line, asked, stands)
		}
	})
}

func TestAPromptThatWasNotReadIsTheCause(t *testing.T) {
	asked := Session{End: Done, Boots: []Boot{{Signs: []Sign{{Name: PassphrasePrompt, Note: "the passphrase was typed"}}}}}
	silent := Session{End: Hung, Detail: "nothing changed", Boots: []Boot{{}}}
	for _, c := range []struct {
		probed, clean Session
		want          bool
	}{{asked, silent, true}, {silent, silent, false}, {asked, asked, false}} {
		ok, why := cleanBoot(Expect{}, c.probed, c.clean)
		if ok || strings.Contains(why, "its prompt could not be read") != c.want {
			t.Errorf("cleanBoot = %v, %q", ok, why)
		}
	}
}
