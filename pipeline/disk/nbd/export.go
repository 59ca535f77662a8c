package nbd

import (
	"encoding/binary"
	"math"
)

// export is what the negotiation found out.
type export struct {
	size                        int64
	flags                       uint16
	minimum, preferred, maximum int64 // block sizes
	structured                  bool
	contexts                    []meta
}

// meta is a metadata context that the server gave, with its number there.
type meta struct {
	name string
	id   uint32
}

// info takes one piece of information; kinds that are unknown are passed over.
func (e *export) info(data []byte) error {
	kind := binary.BigEndian.Uint16(data)
	switch {
	case kind == infoExport && len(data) == 12:
		return e.describe(data[2:])
	case kind == infoBlockSize && len(data) == 14:
		e.minimum = int64(binary.BigEndian.Uint32(data[2:]))
		e.preferred = int64(binary.BigEndian.Uint32(data[6:]))
		e.maximum = int64(binary.BigEndian.Uint32(data[10:]))
	case kind == infoExport, kind == infoBlockSize:
		return broken("information of type %d in %d bytes", kind, len(data))
	}
	return nil
}

// describe takes an export's size and flags.
func (e *export) describe(data []byte) error {
	size := binary.BigEndian.Uint64(data)
	if size > math.MaxInt64 {
		return broken("an export of %d bytes", size)
	}
	e.size, e.flags = int64(size), binary.BigEndian.Uint16(data[8:])
	return nil
}

// check refuses sizes that contradict each other, and brings the largest payload
// down to what we send: 32 MiB at most, in whole blocks.
func (e *export) check() error {
	power := func(n int64) bool { return n > 0 && n&(n-1) == 0 }
	switch {
	case !power(e.minimum) || e.minimum > maxMinimum || !power(e.preferred) ||
		e.preferred < e.minimum || e.maximum < e.minimum:
		return broken("block sizes %d, %d, %d", e.minimum, e.preferred, e.maximum)
	case e.size%e.minimum != 0:
		return broken("the end of an export of %d bytes cannot be reached in blocks of %d", e.size, e.minimum)
	}
	e.maximum = min(e.maximum, maxPayload)
	e.maximum -= e.maximum % e.minimum
	if e.maximum > e.preferred {
		e.maximum -= e.maximum % e.preferred
	}
	return nil
}

func (e *export) features() Features {
	can := func(flag uint16) bool { return e.flags&hasFlags != 0 && e.flags&flag != 0 }
	return Features{
		ReadOnly: can(readOnly), Flush: can(sendFlush), FUA: can(sendFUA), Trim: can(sendTrim),
		Zero: can(sendZeroes), FastZero: can(sendZeroes) && can(sendFastZero),
		MultiConn: can(multiConn), Structured: e.structured,
	}
}
