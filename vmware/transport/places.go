package transport

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"time"

	"hyper2kvm/pipeline/proc"
)

// placeBytes is what a place of a host has.
const placeBytes = mostBytes / mostDisks

// A process that did not get what it needs asks again after askAgain or a little more.
// For as long as rivalry after it met another one, it leaves those the time to be first.
const (
	askAgain = 5 * time.Millisecond
	rivalry  = time.Second
)

// places are those that this process has of a host's eight. Processes share them by
// claims on their names. Only who has the gate takes places: it keeps what it gets until
// that is enough, so that who needs many is not passed by for ever by those who need few,
// and no two wait for one another.
type places struct {
	host  string
	held  [mostDisks]*os.File
	gate  *os.File
	met   time.Time   // when another process was last met
	left  time.Time   // when the gate was last left
	asked time.Time   // when it was last looked whether another process has the gate
	alarm *time.Timer // asks again
}

// get has at least n places, or is false and calls again a little later.
func (p *places) get(n int, again func()) (bool, error) {
	got, err := p.tryGet(n)
	if !got && err == nil && p.alarm == nil {
		p.alarm = time.AfterFunc(askAgain+rand.N(askAgain), again)
	}
	return got, err
}

func (p *places) tryGet(n int) (bool, error) {
	if p.count() >= n {
		p.leave()
		return true, nil
	}
	if p.gate == nil && time.Since(p.met) < rivalry && time.Since(p.left) < 2*askAgain {
		return false, nil
	}
	if err := p.claim(&p.gate, "gate"); p.gate == nil {
		return false, err
	}
	for i := range p.held {
		if p.count() == n {
			break
		}
		if err := p.claim(&p.held[i], strconv.Itoa(i)); err != nil {
			p.leave()
			return false, err
		}
	}
	if p.count() < n {
		return false, nil
	}
	p.leave()
	return true, nil
}

// wanted tells whether another process wants places, or did lately. One that has all that
// it needs does not meet another one otherwise.
func (p *places) wanted() bool {
	if p.gate == nil && time.Since(p.asked) > askAgain {
		p.asked = time.Now()
		var gate *os.File
		if err := p.claim(&gate, "gate"); err != nil {
			return true // get says it, if it happens again
		}
		if gate != nil {
			drop(&gate)
		}
	}
	return time.Since(p.met) < rivalry
}

func (p *places) count() (n int) {
	for _, place := range p.held {
		if place != nil {
			n++
		}
	}
	return n
}

// claim takes what has a name of this host, unless this or another process has it.
func (p *places) claim(to **os.File, what string) error {
	if *to != nil {
		return nil
	}
	sum := sha256.Sum256([]byte(p.host))
	claim, err := proc.Claim("host-" + hex.EncodeToString(sum[:8]) + "-" + what)
	if errors.Is(err, proc.ErrClaimed) {
		p.met = time.Now()
		return nil
	}
	*to = claim
	return err
}

// leave lets others through the gate.
func (p *places) leave() {
	if p.gate != nil {
		p.left = time.Now()
		drop(&p.gate)
	}
}

// keep gives back all places but n, unless more are being gathered.
func (p *places) keep(n int) {
	for i := range p.held {
		if p.gate == nil && p.held[i] != nil && p.count() > n {
			drop(&p.held[i])
		}
	}
}

// drop gives a claim back.
func drop(claim **os.File) {
	(*claim).Close() // nothing was written to it
	*claim = nil
}
