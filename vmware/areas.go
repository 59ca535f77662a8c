package vmware

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/pipeline/disk"
)

// everything is the change ID before a disk's first write.
// Source: vSphere API, VirtualMachine.QueryChangedDiskAreas, changeId.
const everything = "*"

const (
	areaAlign = 1 << 20 // questions begin at multiples of it, so that answers serve again
	// mostAreas bounds what one answer may hold; vSphere's have at most 2000.
	mostAreas = 1 << 16
	// mostAnswers bounds how many answers are kept.
	mostAnswers = 64
	// mostExtents is how many are told of at a time.
	mostExtents = 1 << 12
)

// Areas are the parts of a disk that were written: ever, or since a change ID. Any
// number of goroutines may ask.
type Areas struct {
	session  *Session
	vm       string
	snapshot string
	key      int32
	size     int64
	changeID string

	mu      sync.Mutex
	answers []areaAnswer // the latest last
}

// areaAnswer is what a server told of a range.
type areaAnswer struct {
	start, end int64
	areas      []disk.Allocation // ascending, apart
}

// Allocated are the parts of a disk of size bytes that were ever written. The snapshot
// is empty for a VM that is off.
func (s *Session) Allocated(vm, snapshot string, key int32, size int64) *Areas {
	return s.Changed(vm, snapshot, key, size, everything)
}

// Changed are the parts of a disk that were written since a change ID.
func (s *Session) Changed(vm, snapshot string, key int32, size int64, changeID string) *Areas {
	return &Areas{session: s, vm: vm, snapshot: snapshot, key: key, size: size, changeID: changeID}
}

// Extents are what of n bytes from off on was written, in order and without gaps: at
// least one, and not always all. What was not written is Zero. ErrCBTReset means that
// the server does not know: the disk must be read whole.
func (a *Areas) Extents(ctx context.Context, off, n int64) ([]disk.Allocation, error) {
	if off < 0 || n <= 0 || off >= a.size {
		return nil, fmt.Errorf("areas of disk %d of %s: %d bytes from %d on are not in its %d", a.key, a.vm, n, off, a.size)
	}
	answer, err := a.answer(ctx, off)
	if err != nil {
		return nil, err
	}
	return answer.within(off, min(off+n, answer.end)), nil
}

// answer is one that covers an offset.
func (a *Areas) answer(ctx context.Context, off int64) (areaAnswer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, known := range a.answers {
		if known.start <= off && off < known.end {
			return known, nil
		}
	}
	for start := off - off%areaAlign; ; {
		told, err := a.ask(ctx, start)
		if err != nil {
			return areaAnswer{}, err
		}
		if len(a.answers) == mostAnswers {
			a.answers = slices.Delete(a.answers, 0, 1)
		}
		a.answers = append(a.answers, told)
		if told.end > off {
			return told, nil
		}
		start = told.end
	}
}

// ask has the server tell from an offset on.
func (a *Areas) ask(ctx context.Context, start int64) (areaAnswer, error) {
	request := types.QueryChangedDiskAreas{This: vmRef(a.vm), DeviceKey: a.key, StartOffset: start, ChangeId: a.changeID}
	if a.snapshot != "" {
		ref := snapshotRef(a.snapshot)
		request.Snapshot = &ref
	}
	res, err := methods.QueryChangedDiskAreas(ctx, a.session.client, &request)
	if isFault[*types.FileFault](err) {
		return areaAnswer{}, fmt.Errorf("areas of disk %d of %s since %q: %w: it must be read whole: %w", a.key, a.vm, a.changeID, ErrCBTReset, err)
	}
	if err != nil {
		return areaAnswer{}, explain(err, "areas of disk %d of %s", a.key, a.vm)
	}
	return a.trusted(start, res.Returnval)
}

// trusted checks an answer: it must be about what was asked, get further, and stay
// within the disk.
func (a *Areas) trusted(start int64, info types.DiskChangeInfo) (areaAnswer, error) {
	told := areaAnswer{start: start, end: min(info.StartOffset+info.Length, a.size)}
	if info.StartOffset != start || info.Length <= 0 || told.end <= start || len(info.ChangedArea) > mostAreas {
		return told, fmt.Errorf("areas of disk %d of %s: asked from %d on, the server tells %d areas of %d bytes from %d on: read the disk whole",
			a.key, a.vm, start, len(info.ChangedArea), info.Length, info.StartOffset)
	}
	for _, c := range info.ChangedArea {
		from, to := max(c.Start, start), min(c.Start+c.Length, told.end)
		if c.Start >= 0 && c.Length > 0 && c.Start+c.Length > 0 && from < to {
			told.areas = append(told.areas, disk.Allocation{Offset: from, Length: to - from})
		}
	}
	told.areas = apart(told.areas)
	return told, nil
}

// apart sorts areas and joins those that touch.
func apart(areas []disk.Allocation) (joined []disk.Allocation) {
	slices.SortFunc(areas, func(a, b disk.Allocation) int { return cmp.Compare(a.Offset, b.Offset) })
	for _, a := range areas {
		if n := len(joined); n > 0 && a.Offset <= joined[n-1].Offset+joined[n-1].Length {
			joined[n-1].Length = max(joined[n-1].Length, a.Offset+a.Length-joined[n-1].Offset)
			continue
		}
		joined = append(joined, a)
	}
	return joined
}

// within cuts an answer to a range, with what was not written between.
func (t areaAnswer) within(off, end int64) (list []disk.Allocation) {
	first, _ := slices.BinarySearchFunc(t.areas, off, func(a disk.Allocation, off int64) int {
		return cmp.Compare(a.Offset+a.Length-1, off)
	})
	for _, a := range t.areas[first:] {
		if a.Offset >= end || len(list) >= mostExtents {
			break
		}
		if a.Offset > off {
			list = append(list, disk.Allocation{Offset: off, Length: a.Offset - off, Zero: true})
		}
		from, to := max(a.Offset, off), min(a.Offset+a.Length, end)
		list = append(list, disk.Allocation{Offset: from, Length: to - from})
		off = to
	}
	if off < end && len(list) < mostExtents {
		list = append(list, disk.Allocation{Offset: off, Length: end - off, Zero: true})
	}
	return list
}
