package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"
	"io"
	"os"
	"strings"

	"hyper2kvm/pipeline/disk/qmp"
)

const (
	// maxScreen bounds a screenshot in bytes.
	maxScreen = 16 << 20
	// The colour text memory of a VGA: address, size in bytes, columns.
	textAddress = 0xb8000
	textSize    = 32 << 10
	textColumns = 80
)

// screen is what the guest's display shows.
type screen struct {
	png  []byte
	text string // in text mode; else ""
}

// look takes a picture of the display and, in text mode, its text. A display
// that has nothing to show yet gives an empty screen.
func (r *run) look(ctx context.Context) (screen, error) {
	path := r.at.file("screen.png")
	err := r.qmp.Execute(ctx, "screendump", props{"filename": path, "format": "png"}, nil)
	if _, refused := errors.AsType[*qmp.Error](err); refused {
		return screen{}, nil
	}
	if err != nil {
		return screen{}, err
	}
	picture, err := readFile(path, maxScreen)
	if err != nil {
		return screen{}, err
	}
	s := screen{png: picture}
	if isTextMode(picture) {
		s.text, err = r.text(ctx)
	}
	return s, err
}

// isTextMode tells a text screen by its size: 25 lines of 80 characters, 9 or 8
// by 16 pixels each. No graphics mode of the standard VGA has it.
func isTextMode(picture []byte) bool {
	size, err := png.DecodeConfig(bytes.NewReader(picture))
	return err == nil && size.Height == 400 && (size.Width == 720 || size.Width == 640)
}

// text reads all of the text memory: the kernel scrolls by moving the visible
// part through it, so the older lines are there too.
func (r *run) text(ctx context.Context) (string, error) {
	path := r.at.file("text")
	err := r.qmp.Execute(ctx, "pmemsave", props{"val": textAddress, "size": textSize, "filename": path}, nil)
	if err != nil {
		return "", err
	}
	memory, err := readFile(path, textSize)
	if err != nil {
		return "", err
	}
	return decodeText(memory), nil
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

func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return b, err
}
