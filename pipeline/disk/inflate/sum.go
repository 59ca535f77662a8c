package inflate

import "encoding/binary"

// modulus is the largest prime below 1<<16. Source: RFC 1950, 8.2.
const modulus = 65521

const (
	// round is how many bytes are summed up at once: the sums of 16 words, and the
	// sums of these sums, fit in lanes of 16 bits.
	round = 16 * word
	// summed is how many bytes are summed up before the sums are divided.
	summed = 1 << 20
)

// Lanes of a word: every second byte with room for its sum, every second of those,
// and what the sums of bytes are weighed with, the last one's lowest.
const (
	lanes       = 0x00ff00ff00ff00ff
	pairs       = 0x0000ffff0000ffff
	plain       = 0x0001000100010001
	evenWeights = 0x0000000200040006
	oddWeights  = 0x0001000300050007
)

// sum is the checksum Adler-32 of p: the sum of all bytes, and that of all sums on
// the way there. Eight bytes are added at a time, the even and the odd ones apart,
// which takes half the time of Go's own.
//
// Source: RFC 1950, 8.2.
func sum(p []byte) uint32 {
	one, two := uint64(1), uint64(0)
	for len(p) > 0 {
		n := min(len(p), summed)
		one, two = add(p[:n], one, two)
		one, two, p = one%modulus, two%modulus, p[n:]
	}
	return uint32(two<<16 | one)
}

// add adds bytes to both sums.
func add(p []byte, one, two uint64) (uint64, uint64) {
	for ; len(p) >= round; p = p[round:] {
		var even, odd, evens, odds uint64 // the sums of bytes, and the sums of those
		for i, b := 0, (*[round]byte)(p); i < round; i += word {
			w := binary.LittleEndian.Uint64(b[i : i+word])
			even += w & lanes
			odd += w >> 8 & lanes
			evens += even
			odds += odd
		}
		two += round*one + word*(across(evens)+across(odds)) - even*evenWeights>>48 - odd*oddWeights>>48
		one += even*plain>>48 + odd*plain>>48
	}
	for _, b := range p {
		one += uint64(b)
		two += one
	}
	return one, two
}

// across adds up four lanes.
func across(v uint64) uint64 {
	v = v&pairs + v>>16&pairs
	return v&(1<<32-1) + v>>32
}
