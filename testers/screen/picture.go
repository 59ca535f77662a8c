package screen

import (
	"bytes"
	_ "embed"
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"strings"
	"sync"
)

// A character on Linux's framebuffer console: eight pixels by sixteen, unless the
// screen is a very large one, or the guest has loaded a font of its own.
const (
	glyphWidth  = 8
	glyphHeight = 16
)

type glyph [glyphHeight]byte

// consolePicture is what a framebuffer console shows of all printable characters of
// ASCII, in order: a screenshot of Debian's Linux 6.1 on QEMU's VGA, cut to one line.
//
//go:embed console.png
var consolePicture []byte

// font is the characters by how Linux draws them.
var font = sync.OnceValue(func() map[glyph]byte {
	shown, err := pixels(consolePicture)
	if err != nil {
		panic(fmt.Sprintf("the picture of the font in this program: %v", err))
	}
	known := map[glyph]byte{}
	for i := range shown.Rect.Dx() / glyphWidth {
		known[cell(shown, i*glyphWidth, 0, background(shown))] = byte('!' + i)
	}
	return known
})

// maxPixels bounds a picture; no display of a guest has more.
const maxPixels = 8192 * 8192

func pixels(picture []byte) (*image.RGBA, error) {
	size, err := png.DecodeConfig(bytes.NewReader(picture))
	if err == nil && size.Width*size.Height > maxPixels {
		err = fmt.Errorf("a picture of %d by %d pixels", size.Width, size.Height)
	}
	if err != nil {
		return nil, err
	}
	decoded, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		return nil, err
	}
	shown := image.NewRGBA(decoded.Bounds())
	draw.Draw(shown, shown.Bounds(), decoded, decoded.Bounds().Min, draw.Src)
	return shown, nil
}

// readPicture reads the text of a framebuffer console from its picture. A cell that
// shows no character of Linux's own font is a space, and lines without any text are
// left out: of other fonts and of other pictures nothing is read.
func readPicture(picture []byte) string {
	shown, err := pixels(picture)
	if err != nil {
		return ""
	}
	ground := background(shown)
	var lines []string
	for y := 0; y+glyphHeight <= shown.Rect.Dy(); y += glyphHeight {
		line := make([]byte, shown.Rect.Dx()/glyphWidth)
		for i := range line {
			line[i] = ' '
			if c, ok := font()[cell(shown, i*glyphWidth, y, ground)]; ok {
				line[i] = c
			}
		}
		if text := strings.TrimRight(string(line), " "); text != "" {
			lines = append(lines, text)
		}
	}
	return strings.Join(lines, "\n")
}

type pixel [3]byte

func at(p *image.RGBA, x, y int) pixel { return pixel(p.Pix[p.PixOffset(x, y):]) }

// background is the colour that most of a picture has.
func background(p *image.RGBA) (most pixel) {
	count := map[pixel]int{}
	for y := 0; y < p.Rect.Dy(); y += 2 {
		for x := 0; x < p.Rect.Dx(); x += 2 {
			count[at(p, x, y)]++
		}
	}
	for color, n := range count {
		if n > count[most] {
			most = color
		}
	}
	return most
}

// cell is what is drawn at a place of a picture, a bit for a pixel.
func cell(p *image.RGBA, x, y int, ground pixel) (g glyph) {
	for row := range glyphHeight {
		for column := range glyphWidth {
			if at(p, x+column, y+row) != ground {
				g[row] |= 0x80 >> column
			}
		}
	}
	return g
}
