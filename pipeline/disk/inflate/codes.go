package inflate

// The codes of a block of the kind that tells them: first those of their lengths.
// Source: RFC 1951, 3.2.7.
const (
	numCodes    = 19
	codeBits    = 7
	copyLast    = 16
	zeroesShort = 17
	zeroesLong  = 18
)

// codeOrder is the order in which the lengths of the lengths' codes are told.
var codeOrder = [numCodes]int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

var codeMeaning = meaningsOfCodes()

func meaningsOfCodes() (m [numCodes]uint32) {
	for i := range m {
		m[i] = uint32(i) << 16
	}
	return m
}

// dynamic makes the tables of a block that tells its codes.
func (d *Decoder) dynamic() error {
	literals, offsets, codes := int(d.take(5))+257, int(d.take(5))+1, int(d.take(4))+4
	if literals > usedSymbols || offsets > usedOffsets {
		return damaged("%d symbols and %d offsets", literals, offsets)
	}
	var lengths [numCodes]uint8
	for _, i := range codeOrder[:codes] {
		lengths[i] = uint8(d.take(3))
	}
	var table [1 << codeBits]uint32
	if err := build(table[:], codeBits, lengths[:], codeMeaning[:]); err != nil {
		return err
	}
	if err := d.readLengths(&table, literals+offsets); err != nil {
		return err
	}
	return d.tables(d.lengths[:literals], d.lengths[literals:literals+offsets])
}

// readLengths reads the lengths of so many codes.
func (d *Decoder) readLengths(table *[1 << codeBits]uint32, all int) error {
	for i := 0; i < all; {
		if d.count < codeBits {
			d.fill()
		}
		e := table[d.bits&(1<<codeBits-1)]
		if e&special != 0 {
			return damaged("a code of a length that is none")
		}
		d.take(uint(e & 0xff))
		length, times := uint8(e>>16), 1
		switch {
		case length == copyLast && i == 0:
			return damaged("a length is repeated that is none")
		case length == copyLast:
			length, times = d.lengths[i-1], 3+int(d.take(2))
		case length == zeroesShort:
			length, times = 0, 3+int(d.take(3))
		case length == zeroesLong:
			length, times = 0, 11+int(d.take(7))
		}
		if times > all-i {
			return damaged("a length is repeated too often")
		}
		for range times {
			d.lengths[i] = length
			i++
		}
	}
	return nil
}

// fixed makes the tables of a block whose codes are always the same. Source: RFC
// 1951, 3.2.6.
func (d *Decoder) fixed() error {
	for i := range maxSymbols {
		switch {
		case i < 144:
			d.lengths[i] = 8
		case i < 256:
			d.lengths[i] = 9
		case i < 280:
			d.lengths[i] = 7
		default:
			d.lengths[i] = 8
		}
	}
	for i := range maxOffsets {
		d.lengths[maxSymbols+i] = 5
	}
	return d.tables(d.lengths[:maxSymbols], d.lengths[maxSymbols:])
}

func (d *Decoder) tables(literals, offsets []uint8) error {
	if err := build(d.literals[:], literalBits, literals, literalMeaning[:]); err != nil {
		return err
	}
	return build(d.offsets[:], offsetBits, offsets, offsetMeaning[:])
}
