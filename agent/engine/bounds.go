package engine

import (
	"fmt"

	"github.com/nats-io/nats.go"
)

// What is kept is asked for by subjects, and a subject that is longer than a line of the
// protocol may be, 4096 bytes, has the server end the connection of whoever sends it. The
// library takes that for the end of all, and the engine would be away until the agent is
// started anew. So nothing is asked for by a name that is longer than what is kept has.
//
// Source: nats-server, server/const.go, MAX_CONTROL_LINE_SIZE; nats.go, processErr.
const (
	maxKey  = 255  // bytes of a key
	maxPath = 1024 // bytes of a file's path, as the API describes it
)

// long tells of a name that nothing that is kept has.
func long(key string) bool { return len(key) > maxKey }

// closed notes that the connection to what keeps everything is closed for good.
func (b *bus) closed(c *nats.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ending {
		return
	}
	b.ending, b.err = true, fmt.Errorf("the connection to what keeps the migrations was closed: %w", c.LastError())
	close(b.lost)
}

// Lost is closed when this engine can keep nothing any more, and will not again: Err then
// says why. It has to be opened anew.
func (e *Engine) Lost() <-chan struct{} { return e.bus.lost }

// Err is why the engine is lost; nil if it is not.
func (e *Engine) Err() error {
	e.bus.mu.Lock()
	defer e.bus.mu.Unlock()
	return e.bus.err
}
