package nbd

import (
	"slices"
	"sort"
)

// span is a range of bytes from a request's beginning.
type span struct{ from, to int64 }

// spans is a set of bytes: ranges in order, none of which touch. A server that
// answers in order needs one.
type spans []span

// add adds a range, or says false when some of it is there or when there would
// be too many.
func (s *spans) add(from, to int64) bool {
	i := sort.Search(len(*s), func(i int) bool { return (*s)[i].to >= from }) // the first that is not before
	if i < len(*s) && (*s)[i].to == from {
		return s.extend(i, to)
	}
	switch {
	case i < len(*s) && (*s)[i].from < to:
		return false
	case i < len(*s) && (*s)[i].from == to:
		(*s)[i].from = from
	case len(*s) == maxSpans:
		return false
	default:
		*s = slices.Insert(*s, i, span{from, to})
	}
	return true
}

// extend makes a range longer and joins it to the next if they touch.
func (s *spans) extend(i int, to int64) bool {
	next := i + 1
	if next == len(*s) || (*s)[next].from > to {
		(*s)[i].to = to
		return true
	}
	if (*s)[next].from < to {
		return false
	}
	(*s)[i].to = (*s)[next].to
	*s = slices.Delete(*s, next, next+1)
	return true
}

// whole tells whether the set is all of length bytes.
func (s spans) whole(length int64) bool {
	return len(s) == 1 && s[0] == span{0, length}
}
