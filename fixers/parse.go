package fixers

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Parse reads a plan that was written as JSON. Other JSON, which would have a guest
// converted unfixed, is refused: a plan without changes has an empty list of them. The
// error goes on where the caller has named what was read.
func Parse(text []byte) (p Plan, err error) {
	if err := json.Unmarshal(text, &p); err != nil {
		return Plan{}, fmt.Errorf("is not JSON of a plan (%w)", err)
	}
	if p.Changes == nil {
		return Plan{}, errors.New("has no list of changes")
	}
	return p, nil
}
