package probe

import (
	"bytes"
	"slices"
	"strings"
)

// consoles make the kernel's last words come as text and keep the screen as it
// is: the last one becomes /dev/console.
var consoles = []string{"console=tty0", "console=ttyS0,115200"}

// Consoles are the kernel arguments that SerialConsole adds.
var Consoles = strings.Join(consoles, " ")

// commandLines are the first words of lines that hold a kernel's command line:
// in GRUB 2, in its first version, in boot loader entries and rEFInd, and in the
// SYSLINUX family, whose words are in any case.
var commandLines = []string{"linux", "linux16", "linuxefi", "kernel", "options", "append"}

// SerialConsole adds the serial port to the kernel command lines of a boot
// loader's menu. Lines that name the serial port already stay, and so does
// every other byte. The first GRUB's "kernel" lines hold the whole command line;
// those of the SYSLINUX family are the kernel's name alone.
//
// Source: GRUB manual, linux; GRUB Legacy's manual, kernel; Boot Loader
// Specification, type 1; wiki.syslinux.org, "Config"; Linux,
// Documentation/admin-guide/serial-console.rst.
func SerialConsole(config []byte) []byte {
	lines := bytes.SplitAfter(config, []byte("\n"))
	for i, line := range lines {
		lines[i] = addConsoles(line)
	}
	return bytes.Join(lines, nil)
}

func addConsoles(line []byte) []byte {
	words := bytes.Fields(line)
	if len(words) < 2 || bytes.Contains(line, []byte("console=ttyS0")) {
		return line
	}
	first := strings.ToLower(string(words[0]))
	if !slices.Contains(commandLines, first) || first == "kernel" && len(words) == 2 {
		return line
	}
	text := bytes.TrimRight(line, " \t\r\n")
	quoted := first == "options" && words[1][0] == '"' && bytes.HasSuffix(text, []byte(`"`))
	if quoted || bytes.HasSuffix(text, []byte(`\`)) {
		text = text[:len(text)-1] // what closes the quotes, or goes on in the next line
	}
	out := slices.Clone(text)
	for _, c := range consoles {
		if !slices.ContainsFunc(words, func(w []byte) bool { return string(w) == c }) {
			out = append(append(out, ' '), c...)
		}
	}
	return append(out, line[len(text):]...)
}
