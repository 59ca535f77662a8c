// Package screen reads what the display of a machine shows, and types on its keyboard.
//
// Source: where pictures and memory come from. Look: what is shown. QEMU: a display and
// a keyboard over QEMU's monitor.
package screen

import (
	"bytes"
	"context"
	"image/png"
	"strings"
)

const (
	// The colour text memory of a VGA: address, size in bytes, columns.
	textAddress = 0xb8000
	textSize    = 32 << 10
	textColumns = 80
)

// Source is a machine's display.
type Source interface {
	// Picture is the display as a PNG; nil if it has nothing to show yet.
	Picture(ctx context.Context) ([]byte, error)
	// Memory is size bytes of the guest's memory from a physical address on.
	Memory(ctx context.Context, address, size int64) ([]byte, error)
}

// Shown is what a display shows.
type Shown struct {
	PNG  []byte
	Text string // as far as it can be read
}

// Look takes a picture of the display and reads its text. In text mode that is all
// of the text memory, for the kernel scrolls by moving the visible part through it, so
// that the older lines are there too.
func Look(ctx context.Context, s Source) (Shown, error) {
	picture, err := s.Picture(ctx)
	if err != nil || !isTextMode(picture) {
		return Shown{PNG: picture, Text: readPicture(picture)}, err
	}
	memory, err := s.Memory(ctx, textAddress, textSize)
	return Shown{PNG: picture, Text: decodeText(memory)}, err
}

// isTextMode tells a text screen by its size: 25 lines of 80 characters, 9 or 8
// by 16 pixels each. No graphics mode of the standard VGA has it.
func isTextMode(picture []byte) bool {
	size, err := png.DecodeConfig(bytes.NewReader(picture))
	return err == nil && size.Height == 400 && (size.Width == 720 || size.Width == 640)
}

// decodeText turns text memory, a character and its colours in turn, into
// lines. Characters outside ASCII become spaces (frames and shades, mostly);
// lines without any text are left out.
func decodeText(memory []byte) string {
	var lines []string
	for len(memory) >= 2*textColumns {
		line := make([]byte, textColumns)
		for i := range line {
			line[i] = ' '
			if c := memory[2*i]; c > ' ' && c < 0x7f {
				line[i] = c
			}
		}
		if text := strings.TrimRight(string(line), " "); text != "" {
			lines = append(lines, text)
		}
		memory = memory[2*textColumns:]
	}
	return strings.Join(lines, "\n")
}
