package probe

import (
	"bytes"
	"slices"
)

// consoles make the kernel's last words come as text and keep the screen as it
// is: the last one becomes /dev/console.
var consoles = []string{"console=tty0", "console=ttyS0,115200"}

// SerialConsole adds the serial port to the kernel command lines of a GRUB
// configuration (its linux commands) or of a boot loader specification entry
// (its options). Lines that name the serial port already stay, and so does
// every other byte.
//
// Source: GRUB manual, linux; Boot Loader Specification, type 1; Linux,
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
	if len(words) < 2 || !slices.Contains([]string{"linux", "linux16", "linuxefi", "options"}, string(words[0])) {
		return line
	}
	if bytes.Contains(line, []byte("console=ttyS0")) {
		return line
	}
	text := bytes.TrimRight(line, " \t\r\n")
	end := line[len(text):]
	out := slices.Clone(text)
	for _, c := range consoles {
		if !slices.ContainsFunc(words, func(w []byte) bool { return string(w) == c }) {
			out = append(append(out, ' '), c...)
		}
	}
	return append(out, end...)
}
