package watch

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

// screen is what the guest's display shows.
type screen struct {
	png  []byte
	text string // as far as it can be read
}

// look takes a picture of the display and reads its text. In text mode that is all
// of the text memory, for the kernel scrolls by moving the visible part through it, so
// that the older lines are there too.
func look(ctx context.Context, m Machine) (screen, error) {
	picture, err := m.Picture(ctx)
	if err != nil || !isTextMode(picture) {
		return screen{png: picture, text: readPicture(picture)}, err
	}
	memory, err := m.Memory(ctx, textAddress, textSize)
	return screen{png: picture, text: decodeText(memory)}, err
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
