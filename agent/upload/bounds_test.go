package upload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// stalled is a body that waits until it is let go.
type stalled struct {
	begun chan struct{}
	until <-chan struct{}
}

func (s stalled) Read([]byte) (int, error) {
	close(s.begun)
	<-s.until
	return 0, io.ErrUnexpectedEOF
}

func TestUploadsAtOnceAreBounded(t *testing.T) {
	d := newDesk(t)
	until := make(chan struct{})
	ended := make(chan error)
	for i := range atOnce {
		begun := make(chan struct{})
		go func() {
			_, err := d.Take(context.Background(), string(rune('a'+i)), Part{Length: 10, Size: 20}, stalled{begun, until}, nil)
			ended <- err
		}()
		<-begun
	}
	whole := random(10)
	if _, err := d.send(t, "a", whole, 0, 10, ""); !errors.Is(err, ErrNow) {
		t.Errorf("the same name: %v", err)
	}
	if err := d.Drop("a"); !errors.Is(err, ErrNow) {
		t.Errorf("given up while it comes: %v", err)
	}
	if _, err := d.send(t, "z", whole, 0, 10, ""); !errors.Is(err, ErrMany) {
		t.Errorf("one more: %v", err)
	}
	close(until)
	for range atOnce {
		if err := <-ended; !errors.Is(err, ErrShort) {
			t.Error(err)
		}
	}
	if _, err := d.send(t, "z", whole, 0, 10, ""); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestWithoutRoomNothingIsBegun(t *testing.T) {
	d := newDesk(t)
	_, err := d.Take(t.Context(), "a", Part{Length: 10, Size: MaxSize}, strings.NewReader("0123456789"), nil)
	if list, failed := d.List(); !errors.Is(err, ErrRoom) || failed != nil || len(list) != 0 || d.names(t) != "" {
		t.Errorf("%v; left are %v %s, %v", err, list, d.names(t), failed)
	}
}

func TestOneMoreThanAreKeptIsRefusedUntilSomeAreGivenUp(t *testing.T) {
	d := newDesk(t)
	whole := random(10)
	for i := range most {
		if _, err := d.send(t, fmt.Sprint("u", i), whole, 0, 5, ""); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.send(t, "z", whole, 0, 5, ""); !errors.Is(err, ErrUnfinished) || errors.Is(err, ErrMany) {
		t.Errorf("one more: %v", err)
	}
	if err := d.Drop("u0"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.send(t, "z", whole, 0, 5, ""); err != nil {
		t.Errorf("when one is given up: %v", err)
	}
}
