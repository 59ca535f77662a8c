package problem

import (
	"errors"
	"fmt"
	"testing"

	"hyper2kvm/fixers/inspect"
	"hyper2kvm/pipeline/source"
)

func TestAFailureIsOneSentence(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("fetch: %w: %w", source.ErrBadInput, fmt.Errorf("%w: /a is a folder", source.ErrBadInput)),
			"fetch: cannot use this source: /a is a folder"},
		{errors.Join(errors.New("a failed"), nil, errors.New("b failed"), errors.New("a failed")), "a failed; b failed"},
		{fmt.Errorf("%w: make room: %w", ErrFull, errors.Join(errors.New("a"), errors.New("b"))), "the storage is full: make room: a"},
	} {
		if got := Sentence(c.err); got != c.want {
			t.Errorf("Sentence = %q, want %q", got, c.want)
		}
	}
}

func TestWhatToTryStandsByItself(t *testing.T) {
	p := Of(fmt.Errorf("inspect: %w", inspect.ErrNoOS))
	if p.Code != "bad-input" || p.Try == "" || p.Detail != "inspect: "+inspect.ErrNoOS.Error() || p.Status != 422 {
		t.Errorf("Of = %+v", p)
	}
}
