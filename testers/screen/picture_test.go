package screen

import (
	"bytes"
	"image"
	"image/png"
	"os"
	"strings"
	"testing"
)

// The picture is of a kernel without a root, on the framebuffer of a UEFI firmware.
func TestAFramebufferConsoleIsRead(t *testing.T) {
	picture, err := os.ReadFile("testdata/panic-on-efifb.png")
	if err != nil {
		t.Fatal(err)
	}
	text := readPicture(picture)
	for _, want := range []string{
		"[    1.549842] efifb: Truecolor: size=8:8:8:8, shift=24:16:8:0\n",
		"\n[    1.660711] Loading compiled-in X.509 certificates\n",
		`VFS: Cannot open root device "(null)" or unknown-block(0,0): error -6` + "\n",
		"\n[    2.059700]  <TASK>\n",
		"---[ end Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0) ]---",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the text lacks %q:\n%s", want, text)
		}
	}
	if n := strings.Count(text, "\n"); n != 48 {
		t.Errorf("%d lines, want 49", n+1)
	}
}

func TestOfOtherPicturesNothingIsRead(t *testing.T) {
	noise := image.NewGray(image.Rect(0, 0, 640, 480))
	for i := range noise.Pix {
		noise.Pix[i] = byte(i * i >> 5)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, noise); err != nil {
		t.Fatal(err)
	}
	for name, picture := range map[string][]byte{"noise": b.Bytes(), "no picture": []byte("PNG"), "nothing": nil} {
		if text := readPicture(picture); text != "" {
			t.Errorf("%s is read as %q", name, text)
		}
	}
}

func FuzzReadPicture(f *testing.F) {
	f.Add(consolePicture)
	f.Fuzz(func(_ *testing.T, picture []byte) { readPicture(picture) })
}
