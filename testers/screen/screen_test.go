package screen

import (
	"bytes"
	"image"
	"image/png"
	"testing"
)

func TestTextMemoryBecomesLines(t *testing.T) {
	memory := bytes.Repeat([]byte{' ', 7}, textSize/2)
	for row, text := range map[int]string{0: "GRUB loading.", 2: "error: no such device: 3f0e.", 200: "grub rescue> \xc4\xb3"} {
		for i := range len(text) {
			memory[2*(row*textColumns+i)] = text[i]
		}
	}
	want := "GRUB loading.\nerror: no such device: 3f0e.\ngrub rescue>"
	if got := decodeText(memory); got != want {
		t.Errorf("decodeText = %q, want %q", got, want)
	}
	if got := decodeText(memory[:100]); got != "" {
		t.Errorf("decodeText of less than a line = %q", got)
	}
}

func TestATextScreenIsKnownByItsSize(t *testing.T) {
	for _, c := range []struct {
		w, h int
		want bool
	}{{720, 400, true}, {640, 400, true}, {640, 480, false}, {1280, 800, false}} {
		var b bytes.Buffer
		if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, c.w, c.h))); err != nil {
			t.Fatal(err)
		}
		if got := isTextMode(b.Bytes()); got != c.want {
			t.Errorf("%d by %d is a text screen: %v", c.w, c.h, got)
		}
	}
	if isTextMode([]byte("no picture")) {
		t.Error("what is no picture is a text screen")
	}
}
