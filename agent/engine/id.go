package engine

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"math"
	"strings"

	words "hyper2kvm/agent/spec"
)

// maxID is how long an ID is, as the API describes it.
const maxID = 63

// newID is a migration's: the one that was chosen, one that follows from the
// request's key, so that the request may be sent again, or a new one.
func newID(chosen, name, key string) string {
	if chosen != "" {
		return chosen
	}
	if key != "" { // whatever it asks for: a key that comes again for something else is found out
		sum := sha256.Sum256([]byte(key))
		return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:24])
	}
	id := strings.ToLower(rand.Text()[:12])
	if word := words.Plain(name); word != "" {
		id += "-" + word
	}
	return strings.TrimRight(id[:min(len(id), maxID)], "-")
}

// descending is a text that sorts before that of a smaller number.
func descending(n int64) string {
	return fmt.Sprintf("%019d.", math.MaxInt64-n)
}
