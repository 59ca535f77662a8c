package guests

import (
	"context"
	"time"

	"hyper2kvm/testers"
	"hyper2kvm/testers/screen"
)

const (
	// lookEvery is the time between two looks at the screen.
	lookEvery = 3 * time.Second
	// betweenKeys is more than QEMU holds a key.
	betweenKeys = 150 * time.Millisecond
)

// keyboard is where somebody sits while a guest boots.
type keyboard struct {
	screen.QEMU
	looked   time.Time
	text     string // of the screen, at the last look
	unlocked bool
}

// unlock types the passphrase of an encrypted guest, once, when the prompt for it
// stands on the screen.
func (b *build) unlock(ctx context.Context) error {
	k, locked := &b.keyboard, b.locked()
	if len(locked) == 0 || k.unlocked || time.Since(k.looked) < lookEvery {
		return nil
	}
	k.looked = time.Now()
	shown, err := screen.Look(ctx, k)
	if err != nil {
		return err
	}
	_, asked, _ := testers.Prompt(shown.Text)
	ready := asked > 0 && shown.Text == k.text
	if k.text = shown.Text; !ready {
		return nil
	}
	k.unlocked = true
	b.log.Info("the passphrase is typed", "guest", b.Name)
	return k.write(ctx, locked[0].Locked.Passphrase+string(screen.Enter))
}

func (k *keyboard) write(ctx context.Context, text string) error {
	for _, c := range []byte(text) {
		if err := k.Press(ctx, screen.Keys(c)); err != nil {
			return err
		}
		time.Sleep(betweenKeys)
	}
	return nil
}
