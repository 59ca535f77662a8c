package upload

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// ParseRange reads a Content-Range of a request that brings a part: bytes FIRST-LAST/SIZE,
// or bytes */SIZE of one that brings none.
//
// Source: RFC 9110, sections 14.4 and 14.5.
func ParseRange(text string) (first, length, size int64, err error) {
	bad := fmt.Errorf("%w: the Content-Range is %.100q: write bytes FIRST-LAST/SIZE, such as bytes 0-1048575/5368709120", ErrInput, text)
	rest, ok := strings.CutPrefix(text, "bytes ")
	part, total, ok2 := strings.Cut(rest, "/")
	from, to, ok3 := strings.Cut(part, "-")
	if part == "*" {
		from, to, ok3 = total, total, true
	}
	if !ok || !ok2 || !ok3 {
		return 0, 0, 0, bad
	}
	var n [3]int64
	for i, number := range []string{from, to, total} {
		v, err := strconv.ParseUint(number, 10, 62)
		if err != nil {
			return 0, 0, 0, bad
		}
		n[i] = int64(v)
	}
	if part == "*" {
		return n[2], 0, n[2], nil
	}
	if n[0] > n[1] || n[1] >= n[2] {
		return 0, 0, 0, bad
	}
	return n[0], n[1] - n[0] + 1, n[2], nil
}

// ParseDigest reads the SHA-256 of a Repr-Digest, which with a part is of the whole
// file; none if there is no header. Other digests in it are passed over.
//
// Source: RFC 9530, sections 3 and 5; RFC 8941, sections 3.2 and 3.3.5.
func ParseDigest(text string) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	for member := range strings.SplitSeq(text, ",") {
		value, ok := strings.CutPrefix(strings.TrimSpace(member), "sha-256=:")
		if !ok {
			continue
		}
		value, _, ok = strings.Cut(value, ":")
		sum, err := base64.StdEncoding.DecodeString(value)
		if !ok || err != nil || len(sum) != sha256.Size {
			break
		}
		return sum, nil
	}
	return nil, fmt.Errorf("%w: the Repr-Digest holds no SHA-256, such as sha-256=:BASE64: with 32 bytes", ErrInput)
}

// Digest is a SHA-256 as Repr-Digest has it.
func Digest(sum []byte) string { return "sha-256=:" + base64.StdEncoding.EncodeToString(sum) + ":" }
