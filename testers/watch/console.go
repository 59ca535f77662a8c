package watch

import (
	"context"
	"strings"
	"time"

	"hyper2kvm/testers/screen"
)

// betweenKeys is more than QEMU holds a key.
const betweenKeys = 150 * time.Millisecond

// console is where a guest asks, and is answered.
type console interface {
	name() string // as signs have it
	// inOrder tells whether its text is in the order in which it was written. A text
	// screen has the prompt on top of what the firmware and GRUB left there.
	inOrder() bool
	// press types one character.
	press(ctx context.Context, c byte) error
	// shows is what the console shows of what was typed since its last answer.
	shows(ctx context.Context) (string, error)
}

const (
	onSerial = "serial"
	onScreen = "screen"
)

// serialConsole is the first serial port.
type serialConsole struct{ r *run }

func (serialConsole) name() string  { return onSerial }
func (serialConsole) inOrder() bool { return true }

func (c serialConsole) press(_ context.Context, key byte) error { return c.r.serial.send(key) }

// shows takes what was written meanwhile, which is heard too.
func (c serialConsole) shows(context.Context) (string, error) {
	c.r.readSerial(time.Now())
	text := c.r.watch.typing.fresh
	c.r.watch.typing.fresh = ""
	return text, nil
}

// keyboard is the machine's, and its screen.
type keyboard struct{ m Machine }

func (keyboard) name() string  { return onScreen }
func (keyboard) inOrder() bool { return false }

func (c keyboard) press(ctx context.Context, key byte) error {
	if err := c.m.Press(ctx, screen.Keys(key)); err != nil {
		return err
	}
	return pause(ctx, betweenKeys)
}

func (c keyboard) shows(ctx context.Context) (string, error) {
	s, err := screen.Look(ctx, c.m)
	return strings.TrimSpace(s.Text), err
}
