package screen

import (
	"slices"
	"testing"
)

func TestEveryCharacterHasItsKeys(t *testing.T) {
	// Source: Linux, include/uapi/linux/input-event-codes.h.
	for c, want := range map[byte][]int{'1': {2}, '0': {11}, '=': {13}, 'q': {16}, ']': {27}, 'A': {42, 30}, ';': {39}, '"': {42, 40}, '~': {42, 41},
		'\\': {43}, 'z': {44}, '?': {42, 53}, ' ': {57}, Enter: {28}, Backspace: {14}, Tab: {15}, '\n': nil, 0: nil, 0xe4: nil} {
		if got := Keys(c); !slices.Equal(got, want) {
			t.Errorf("%q is %v, want %v", c, got, want)
		}
	}
	typed := map[string]byte{}
	for c := byte(' '); c <= '~'; c++ {
		keys := Keys(c)
		name := string([]byte{byte(len(keys)), byte(keys[len(keys)-1])})
		if other, taken := typed[name]; taken {
			t.Errorf("%q and %q are the same keys", c, other)
		}
		typed[name] = c
	}
}
