package initrd

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// lookUp reads a binary index as kmod does and returns a key's values in order.
func lookUp(trie []byte, key string) []string {
	at := binary.BigEndian.Uint32(trie[8:])
	for {
		c := cursor{data: trie, off: int(at & 0x0fffffff)}
		if at&triePrefix != 0 {
			prefix := c.text()
			if len(key) < len(prefix) || key[:len(prefix)] != prefix {
				return nil
			}
			key = key[len(prefix):]
		}
		children := map[byte]uint32{}
		if at&trieChilds != 0 {
			first, last := c.byte(), c.byte()
			for k := int(first); k <= int(last); k++ {
				children[byte(k)] = c.be32()
			}
		}
		if key == "" {
			var values []string
			if at&trieValues != 0 {
				for n := c.be32(); n > 0; n-- {
					c.be32()
					values = append(values, c.text())
				}
			}
			return values
		}
		if at = children[key[0]]; at == 0 {
			return nil
		}
		key = key[1:]
	}
}

func (c *cursor) text() string {
	n := slices.Index(c.data[c.off:], 0)
	return string(c.take(n + 1)[:n])
}

func TestATrieGivesBackItsKeys(t *testing.T) {
	entries := []trieEntry{
		{"ask", "1", 0}, {"ate", "2", 0}, {"on", "3", 0}, {"once", "4", 0}, {"one", "6", 7}, {"one", "5", 1},
		{"one", "5", 9}, {"\x80", "never", 0}, {"", "never", 0},
	}
	trie := encodeTrie(entries)
	for key, want := range map[string][]string{
		"ask": {"1"}, "ate": {"2"}, "on": {"3"}, "once": {"4"}, "one": {"5", "6", "5"},
		"o": nil, "": nil, "as": nil, "asks": nil, "x": nil,
	} {
		if diff := cmp.Diff(want, lookUp(trie, key)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", key, diff)
		}
	}
	if got := lookUp(encodeTrie(nil), "x"); got != nil {
		t.Errorf("an empty trie has %q", got)
	}
	if got := lookUp(encodeTrie([]trieEntry{{"alone", "1", 0}}), "alone"); !slices.Equal(got, []string{"1"}) {
		t.Errorf("a trie of one key has %q", got)
	}
}

func TestAliasesKeepTheDashesInBrackets(t *testing.T) {
	for alias, want := range map[string]string{
		"crypto-crc32c":        "crypto_crc32c",
		"of:N*T*Cfoo-bar[a-z]": "of:N*T*Cfoo_bar[a-z]",
		"a]b":                  "",
		"a[b":                  "",
	} {
		if got := normalAlias(alias); got != want {
			t.Errorf("normalAlias(%q) = %q, want %q", alias, got, want)
		}
	}
}
