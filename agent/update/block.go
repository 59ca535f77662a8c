package update

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// block is what GRUB keeps from one start to the next: which version is on trial, and how
// many tries are left. GRUB counts them itself.
//
// Source: GRUB, util/grub-editenv.c and lib/envblk.c: 1024 bytes, filled up with #, which
// GRUB writes in their place.
type block struct {
	trial string // a version, or nothing
	tries int
}

const (
	blockSize  = 1024
	blockBegin = "# GRUB Environment Block\n"
)

func (b block) bytes() []byte {
	text := blockBegin
	if b.trial != "" {
		text += fmt.Sprintf("trial=%s\ntries=%d\n", b.trial, b.tries)
	}
	return append([]byte(text), bytes.Repeat([]byte("#"), blockSize-len(text))...)
}

// block is an ESP's. One that is not there, or not GRUB's, says nothing.
func (e esp) block() (b block, err error) {
	text, err := os.ReadFile(e.path(blockAt))
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err != nil || len(text) != blockSize || !strings.HasPrefix(string(text), blockBegin) {
		return b, err
	}
	for line := range strings.Lines(string(text)) {
		name, v, _ := strings.Cut(strings.TrimRight(line, "\n"), "=")
		switch name {
		case "trial":
			b.trial = v
		case "tries":
			if b.tries, err = strconv.Atoi(v); err != nil {
				return block{}, nil // GRUB would not make anything of it either
			}
		}
	}
	return b, nil
}

// keep has GRUB know of a trial, but for tries that it has counted already.
func (e esp) keep(b block) error {
	was, err := e.block()
	if err != nil {
		return err
	}
	if b.trial != "" && was.trial == b.trial {
		b.tries = min(b.tries, was.tries)
	}
	if text, err := os.ReadFile(e.path(blockAt)); err == nil && bytes.Equal(text, b.bytes()) {
		return nil
	}
	return e.change(blockAt, b.bytes())
}
