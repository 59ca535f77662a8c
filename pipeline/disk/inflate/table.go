package inflate

import "math/bits"

// A table is looked up with the next bits of a stream. An entry holds in its low
// byte how many bits it takes, its code and the extra bits behind it; in the four
// bits above how many of them are the code; and in its upper half the literal, or the
// base of a length or an offset. A code that is longer than the table's index has a
// special entry there, which names a table of its own behind and how many bits that
// is looked up with.
const (
	literal  = 1 << 31
	special  = 1 << 15 // none of the kinds above
	subtable = 1 << 14
	blockEnd = 1 << 13

	longestCode = 15
	literalBits = 11
	offsetBits  = 8
	literalMask = 1<<literalBits - 1
	offsetMask  = 1<<offsetBits - 1
	maxSymbols  = 288
	maxOffsets  = 32
	usedSymbols = 286 // the others stand in the fixed code alone, and mean nothing
	usedOffsets = 30
)

// The tables with room for those behind them, of which each is for two codes at least
// and as large as the longest code needs.
type (
	literalTable [1<<literalBits + maxSymbols/2<<(longestCode-literalBits)]uint32
	offsetTable  [1<<offsetBits + maxOffsets/2<<(longestCode-offsetBits)]uint32
)

var (
	literalMeaning = meaningsOfLiterals()
	offsetMeaning  = meaningsOfOffsets()
)

// meaningsOfLiterals are literals, the end and lengths. Source: RFC 1951, 3.2.5.
func meaningsOfLiterals() (m [maxSymbols]uint32) {
	for i := range 256 {
		m[i] = literal | uint32(i)<<16
	}
	m[256] = special | blockEnd
	base := uint32(3)
	for i := range uint32(28) {
		extra := uint32(0)
		if i >= 8 {
			extra = i/4 - 1
		}
		m[257+i] = base<<16 | extra
		base += 1 << extra
	}
	m[285] = longestMatch << 16
	m[286], m[287] = special, special
	return m
}

// meaningsOfOffsets are how far back matches are. Source: RFC 1951, 3.2.5.
func meaningsOfOffsets() (m [maxOffsets]uint32) {
	base := uint32(1)
	for i := range uint32(usedOffsets) {
		extra := uint32(0)
		if i >= 4 {
			extra = i/2 - 1
		}
		m[i] = base<<16 | extra
		base += 1 << extra
	}
	m[30], m[31] = special, special
	return m
}

// build makes a table, looked up with so many bits, of the lengths of the codes of
// symbols, zero for a symbol without one. Codes that leave some bits without a
// meaning are damaged; but there may be none, or one of one bit, as zlib makes them.
//
// Source: RFC 1951, 3.2.2; zlib, inftrees.c.
func build(table []uint32, index int, lengths []uint8, meanings []uint32) error {
	var counts [longestCode + 1]int
	for _, n := range lengths {
		counts[n]++
	}
	counts[0] = 0
	var next [longestCode + 2]int // the first code of each length
	left, most := 1, 0
	for n := 1; n <= longestCode; n++ {
		left = left<<1 - counts[n]
		if left < 0 {
			return damaged("more codes than there are bits")
		}
		next[n+1] = (next[n] + counts[n]) << 1
		if counts[n] > 0 {
			most = n
		}
	}
	if left > 0 && most > 1 {
		return damaged("bits without a code")
	}
	if left > 0 {
		for i := range 1 << index {
			table[i] = special
		}
	}
	fillTable(table, index, max(0, most-index), lengths, meanings, next)
	return nil
}

// fillTable enters each code wherever its bits are followed by any others. Tables
// behind the first are looked up with width bits.
func fillTable(table []uint32, index, width int, lengths []uint8, meanings []uint32, next [longestCode + 2]int) {
	free := 1 << index
	var begun [1 << literalBits]bool
	for symbol, length := range lengths {
		n := int(length)
		if n == 0 {
			continue
		}
		code := int(bits.Reverse16(uint16(next[n])) >> (16 - n))
		next[n]++
		part, used := table[:1<<index], n
		if n > index {
			root := code & (1<<index - 1)
			if !begun[root] {
				begun[root] = true
				table[root] = special | subtable | uint32(free)<<16 | uint32(width)<<8 | uint32(index)
				free += 1 << width
			}
			start := int(table[root] >> 16)
			part, code, used = table[start:start+1<<width], code>>index, n-index
		}
		entry := meanings[symbol] + uint32(used)<<8 + uint32(used)
		for i := code; i < len(part); i += 1 << used {
			part[i] = entry
		}
	}
}
