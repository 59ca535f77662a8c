package md

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// disk reads as zeros but for some blocks.
type disk map[int64][]byte

func (d disk) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	for at, block := range d {
		if off >= at && off < at+int64(len(block)) {
			copy(p, block[off-at:])
		}
	}
	return len(p), nil
}

const size = 64 << 20

// super is a superblock of version 1 that is to be changed before it is summed up.
type super struct {
	number, disks, level, layout, chunk int
	features                            uint32
	events, resync                      uint64
	roles                               []uint16
	start, length, used                 int64 // bytes
	slow                                bool
	name                                string
}

// whole is the superblock of a member of a RAID 1 of two that is well.
func whole(number int) super {
	return super{number: number, disks: 2, level: 1, events: 20, resync: ^uint64(0), roles: []uint16{0, 1, 0xffff, 0xfffe},
		start: 1 << 20, length: size - 1<<20, used: 32 << 20, name: "web:root"}
}

// at writes it where version 1.2 has it.
func (s super) at() disk { return disk{4096: s.block(4096)} }

func (s super) block(at int64) []byte {
	le, b := binary.LittleEndian, make([]byte, superSize)
	le.PutUint32(b, magic)
	le.PutUint32(b[4:], 1)
	le.PutUint32(b[8:], s.features)
	copy(b[16:], "0123456789abcdef")
	copy(b[32:], s.name)
	le.PutUint64(b[64:], 1_700_000_000)
	le.PutUint32(b[72:], uint32(s.level))
	le.PutUint32(b[76:], uint32(s.layout))
	le.PutUint64(b[80:], uint64(s.used/sector))
	le.PutUint32(b[88:], uint32(s.chunk/sector))
	le.PutUint32(b[92:], uint32(s.disks))
	le.PutUint64(b[128:], uint64(s.start/sector))
	le.PutUint64(b[136:], uint64(s.length/sector))
	le.PutUint64(b[144:], uint64(at/sector))
	le.PutUint32(b[160:], uint32(s.number))
	b[168] = byte(s.number)
	if s.slow {
		b[184] = 1
	}
	le.PutUint64(b[200:], s.events)
	le.PutUint64(b[208:], s.resync)
	le.PutUint32(b[220:], uint32(len(s.roles)))
	for i, r := range s.roles {
		le.PutUint16(b[rolesAt+2*i:], r)
	}
	le.PutUint32(b[216:], sum1(b, uint32(len(s.roles))))
	return b
}

// assembled is the one array that superblocks make, each on a device of its own.
func assembled(t *testing.T, supers ...super) Array {
	t.Helper()
	var all []Device
	for i, s := range supers {
		m, err := Read(s.at(), size)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, Device{fmt.Sprintf("disk%d", i), m})
	}
	arrays := Assemble(all)
	if len(arrays) != 1 {
		t.Fatalf("%d arrays", len(arrays))
	}
	return arrays[0]
}

func TestAMirrorLiesOnAllItsMembers(t *testing.T) {
	slow, dirty := whole(0), whole(1)
	slow.slow, dirty.resync = true, 0
	got := assembled(t, slow, dirty)
	want := Array{UUID: "30313233:34353637:38396162:63646566", Version: "1.2", Name: "web:root", Minor: -1, Kind: "raid1",
		Size: 32 << 20, On: []string{"disk0", "disk1"}, InSync: true,
		Segments: []Segment{{Size: 32 << 20, Copies: true, On: []Place{{"disk1", 1 << 20}, {"disk0", 1 << 20}}}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("(-want +got):\n", diff)
	}
	if got.Label() != "root" {
		t.Errorf("Label = %q", got.Label())
	}
}

// changed is a superblock after a change.
func changed(s super, by func(*super)) super {
	s.roles = slices.Clone(s.roles)
	by(&s)
	return s
}

func TestAnArrayThatIsNotWholeIsNamed(t *testing.T) {
	older := func(s *super) { s.events = 18 }
	kicked := func(s *super) { s.roles[1] = 0xfffe }
	removed := func(s *super) { s.roles[1] = 0xffff }
	feature := func(bits uint32) func(*super) { return func(s *super) { s.features = bits } }
	for name, c := range map[string]struct {
		supers            []super
		problem, unmapped string
		on, stale         string
		lacks, segments   int
	}{
		"one is missing":      {supers: []super{whole(1)}, on: "disk0", lacks: 1, segments: 1},
		"one fell out":        {supers: []super{changed(whole(0), kicked), changed(whole(1), older)}, on: "disk0", stale: "disk1", lacks: 1, segments: 1},
		"one was removed":     {supers: []super{changed(whole(0), removed), changed(whole(1), older)}, on: "disk0", stale: "disk1", lacks: 1, segments: 1},
		"one is behind":       {supers: []super{whole(0), changed(whole(1), older)}, on: "disk0", stale: "disk1", lacks: 1, segments: 1},
		"one was late":        {supers: []super{whole(0), changed(whole(1), func(s *super) { s.events-- })}, on: "disk0 disk1", segments: 1},
		"kicked and late":     {supers: []super{changed(whole(0), kicked), changed(whole(1), func(s *super) { s.events-- })}, on: "disk0", stale: "disk1", lacks: 1, segments: 1},
		"a spare":             {supers: []super{whole(0), whole(1), whole(2)}, on: "disk0 disk1", segments: 1},
		"twice":               {supers: []super{whole(0), whole(1), whole(1)}, on: "disk0 disk1 disk2", problem: "its member 1 is there twice: on disk1 and on disk2"},
		"degraded, bitmap":    {supers: []super{changed(whole(1), feature(hasBitmap))}, on: "disk0", lacks: 1, unmapped: "a member is missing, and what is written meanwhile must be noted in its bitmap, which is left to md"},
		"bitmap":              {supers: []super{changed(whole(0), feature(hasBitmap)), changed(whole(1), feature(hasBitmap))}, on: "disk0 disk1", segments: 1},
		"being rebuilt":       {supers: []super{whole(0), changed(whole(1), feature(isRecovering))}, on: "disk0 disk1", problem: "one of its members is being rebuilt: let that finish in the guest"},
		"being reshaped":      {supers: []super{changed(whole(0), feature(isReshaping)), whole(1)}, on: "disk0 disk1", problem: "it is being reshaped: let that finish in the guest"},
		"being replaced":      {supers: []super{whole(0), changed(whole(1), feature(isReplacement|isRecovering))}, on: "disk0 disk1", problem: "one of its members is being replaced: let that finish in the guest"},
		"a rebuild long ago":  {supers: []super{whole(0), changed(whole(1), func(s *super) { s.events, s.features = 3, isRecovering })}, on: "disk0", stale: "disk1", lacks: 1, segments: 1},
		"bad blocks":          {supers: []super{whole(0), changed(whole(1), feature(hasBadBlocks))}, on: "disk0 disk1", unmapped: "it has a list of bad blocks"},
		"journal":             {supers: []super{changed(whole(0), feature(hasJournal)), whole(1)}, on: "disk0 disk1", unmapped: "it has a write journal"},
		"partial parity":      {supers: []super{changed(whole(0), feature(hasPPL)), whole(1)}, on: "disk0 disk1", unmapped: "it has a partial parity log"},
		"of a cluster":        {supers: []super{changed(whole(0), feature(isClustered)), whole(1)}, on: "disk0 disk1", problem: "it is shared by the machines of a cluster"},
		"of the future":       {supers: []super{changed(whole(0), feature(1<<20)), whole(1)}, on: "disk0 disk1", unmapped: "its superblock has features that are not known"},
		"of two minds":        {supers: []super{whole(0), changed(whole(1), func(s *super) { s.used = 16 << 20 })}, on: "disk0 disk1", problem: "disk0 and disk1 do not agree on what it is"},
		"a member too small":  {supers: []super{whole(0), changed(whole(1), func(s *super) { s.length = 16 << 20 })}, on: "disk0 disk1", problem: "disk1 is too small for it"},
		"a member too many":   {supers: []super{whole(0), changed(whole(1), func(s *super) { s.roles[1] = 7 })}, on: "disk0 disk1", segments: 1},
		"nothing left":        {supers: []super{changed(whole(1), func(s *super) { s.roles = []uint16{0, 0xfffe} })}, stale: "disk0", lacks: 2, problem: "it lacks 2 of its 2 members, and out of date is what is on disk0"},
		"empty":               {supers: []super{changed(whole(0), func(s *super) { s.used = 0 }), changed(whole(1), func(s *super) { s.used = 0 })}, on: "disk0 disk1", problem: "an array of 0 bytes"},
		"of an unknown level": {supers: []super{changed(whole(0), func(s *super) { s.level = -4 }), changed(whole(1), func(s *super) { s.level = -4 })}, on: "disk0 disk1", problem: "an array of the kind multipath"},
	} {
		a := assembled(t, c.supers...)
		if a.Problem != c.problem || a.Unmapped != c.unmapped || a.Lacks != c.lacks || len(a.Segments) != c.segments {
			t.Errorf("%s: %+v", name, a)
		}
		if on, stale := strings.Join(a.On, " "), strings.Join(a.Stale, " "); on != c.on || stale != c.stale {
			t.Errorf("%s: on %q, stale %q", name, on, stale)
		}
	}
}

// striped are members of a RAID 0 with so many MiB, the last also with half a chunk.
func striped(level, layout int, features uint32, mib ...int64) []super {
	var all []super
	for i, n := range mib {
		s := whole(i)
		s.level, s.layout, s.features, s.chunk, s.disks, s.length, s.used = level, layout, features, 64<<10, len(mib), n<<20, 0
		s.roles = []uint16{0, 1, 2}
		if i == len(mib)-1 {
			s.length += 32 << 10
		}
		all = append(all, s)
	}
	return all
}

// chunkAt follows md's own code, step by step: the device of a chunk and the chunk's
// place on it.
//
// Source: Linux drivers/md/raid0.c, find_zone, map_sector, raid0_map_submit_bio.
func chunkAt(chunk int64, layout int, mib ...int64) (device, row int64) {
	full, passed := int64(0), int64(0)
	for {
		var zone []int64
		next := int64(1 << 60)
		for i, n := range mib {
			if chunks := n << 20 / (64 << 10); chunks > full {
				zone, next = append(zone, int64(i)), min(next, chunks)
			}
		}
		n := int64(len(zone))
		if within := chunk - passed; within < (next-full)*n {
			by := within
			if layout == original {
				by = chunk
			}
			return zone[by%n], full + within/n
		}
		passed += (next - full) * n
		full = next
	}
}

func TestStripesOfUnequalMembersLieAsMdLaysThem(t *testing.T) {
	for _, layout := range []int{original, alternate} {
		mib := []int64{3, 1, 2}
		a := assembled(t, striped(0, layout, hasLayout, mib...)...)
		if a.Problem != "" || a.Size != 6<<20 || len(a.Segments) != 3 {
			t.Fatalf("layout %d: %+v", layout, a)
		}
		chunk := int64(0)
		for _, s := range a.Segments {
			for i := range s.Size / (64 << 10) {
				n := int64(len(s.On))
				device, row := chunkAt(chunk, layout, mib...)
				if got, want := s.On[i%n], (Place{fmt.Sprintf("disk%d", device), 1<<20 + (row-i/n)*64<<10}); got != want {
					t.Fatalf("layout %d, chunk %d begins at %v, want %v", layout, chunk, got, want)
				}
				chunk++
			}
		}
	}
}

func TestStripesThatMayLieInTwoWaysAreNotMapped(t *testing.T) {
	equal := assembled(t, striped(0, 0, 0, 2, 2, 2)...)
	if want := []Segment{{Size: 6 << 20, Chunk: 64 << 10, On: []Place{{"disk0", 1 << 20}, {"disk1", 1 << 20}, {"disk2", 1 << 20}}}}; !cmp.Equal(want, equal.Segments) || equal.Problem != "" {
		t.Errorf("equal members: %+v", equal)
	}
	for name, a := range map[string]Array{
		"of before layouts": assembled(t, striped(0, original, 0, 1, 2, 2)...),
		"of another layout": assembled(t, striped(0, 3, hasLayout, 1, 2, 2)...),
	} {
		if !strings.Contains(a.Problem, "which of two layouts") || a.Segments != nil {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if a := assembled(t, striped(0, 0, 0, 2, 2, 2)[:2]...); a.Problem != "it lacks 1 of its 3 members" {
		t.Errorf("a member is missing: %+v", a)
	}
	odd := striped(0, 0, 0, 2, 2)
	odd[0].chunk, odd[1].chunk = 0, 0
	if a := assembled(t, odd...); a.Problem != "stripes of 0 bytes" {
		t.Errorf("no chunks: %+v", a)
	}
}

func TestALinearArrayIsOneBehindTheOther(t *testing.T) {
	a := assembled(t, striped(linear, 0, 0, 3, 2)...)
	want := []Segment{{Size: 3 << 20, On: []Place{{"disk0", 1 << 20}}}, {Size: 2 << 20, On: []Place{{"disk1", 1 << 20}}}}
	if diff := cmp.Diff(want, a.Segments); diff != "" || a.Kind != "linear" || a.Size != 5<<20 {
		t.Errorf("%+v\n%s", a, diff)
	}
}

func TestWhatMdMapsHasItsSize(t *testing.T) {
	for name, c := range map[string]struct {
		level, layout, disks int
		lacks                int
		size                 int64
		problem              bool
	}{
		"raid4":                   {4, 0, 3, 0, 2 * 31 << 20, false},
		"raid5":                   {5, 2, 3, 0, 2 * 31 << 20, false},
		"raid5 without one":       {5, 2, 3, 1, 2 * 31 << 20, false},
		"raid5 without two":       {5, 2, 3, 2, 2 * 31 << 20, true},
		"raid6 without two":       {6, 2, 4, 2, 2 * 31 << 20, false},
		"raid6 without three":     {6, 2, 4, 3, 2 * 31 << 20, true},
		"raid10":                  {10, 0x102, 4, 0, 2 * 31 << 20, false},
		"raid10 of three":         {10, 0x102, 3, 0, 3 * 31 << 19, false},
		"raid10 without one":      {10, 0x102, 4, 1, 2 * 31 << 20, false},
		"raid10 with far copies":  {10, 0x201, 2, 0, 31 << 20, false},
		"raid10 of no copies":     {10, 0, 2, 0, 0, false},
		"raid5 of one member":     {5, 2, 1, 0, 0, false},
		"raid5 that is too large": {5, 2, 600, 600 - 4, 0, true},
	} {
		var all []super
		for i := range c.disks - c.lacks {
			s := whole(i)
			s.level, s.layout, s.disks, s.chunk, s.used = c.level, c.layout, c.disks, 64<<10, 31<<20+512
			s.roles = []uint16{0, 1, 2, 3}
			if c.disks > 4 {
				s.used = 1 << 59
			}
			all = append(all, s)
		}
		if len(all) == 0 {
			continue
		}
		a := assembled(t, all...)
		closed := a.Problem != "" || a.Unmapped == ""
		if c.size > 0 && (a.Size != c.size || (a.Problem != "") != c.problem) || c.size == 0 && !closed && a.Size > 0 || a.Segments != nil {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

func TestNamesThatAreNoneForAFileAreNotUsed(t *testing.T) {
	for name, want := range map[string]string{
		"web:root": "root", "root": "root", "a:b:c": "U", "web:": "U", "web:../x": "U", "web:..": "U", "web:a b": "U", "web:\x1b[1m": "U", "web:-x": "U", "web:0": "0",
	} {
		if got := (Array{Name: name, Minor: -1, UUID: "U"}).Label(); got != want {
			t.Errorf("Label of %q = %q, want %q", name, got, want)
		}
	}
	if got := (Array{Minor: 127}).Label(); got != "127" {
		t.Errorf("Label of version 0.90 = %q", got)
	}
}

func TestDamagedSuperblocksAreRefused(t *testing.T) {
	for name, by := range map[string]func(*super){
		"data behind the end":   func(s *super) { s.length = size },
		"data over it":          func(s *super) { s.start, s.length = 0, size },
		"no such device":        func(s *super) { s.number = 4 },
		"no devices":            func(s *super) { s.disks = 0 },
		"too many devices":      func(s *super) { s.disks = 4000 },
		"far data":              func(s *super) { s.start = -1 << 10 },
		"a size of no disk":     func(s *super) { s.used = -1 << 10 },
		"more roles than bytes": func(s *super) { s.roles = make([]uint16, maxDisks) },
	} {
		d := changed(whole(0), by).at()
		if name == "more roles than bytes" {
			binary.LittleEndian.PutUint32(d[4096][220:], maxDisks+1)
		}
		if m, err := Read(d, size); !errors.Is(err, ErrSuperblock) {
			t.Errorf("%s: Read = %+v, %v", name, m, err)
		}
	}
	for at := range 264 {
		d := whole(0).at()
		d[4096][at] ^= 4
		if m, err := Read(d, size); !errors.Is(err, ErrSuperblock) {
			t.Errorf("byte %d: Read = %+v, %v", at, m, err)
		}
	}
	for name, d := range map[string]disk{"nothing": {}, "of another place": {0: whole(0).block(4096)}} {
		if m, err := Read(d, size); !errors.Is(err, ErrSuperblock) {
			t.Errorf("%s: Read = %+v, %v", name, m, err)
		}
	}
	if _, err := Read(disk{}, 1000); !errors.Is(err, ErrSuperblock) {
		t.Errorf("a tiny device: %v", err)
	}
}

func TestTheYoungestSuperblockCounts(t *testing.T) {
	old := whole(0)
	old.start, old.length, old.name = 0, size-64<<10, "web:old"
	at := versions[1].at(size)
	block := old.block(at)
	binary.LittleEndian.PutUint64(block[64:], 1_600_000_000)
	binary.LittleEndian.PutUint32(block[216:], sum1(block, 4))
	d := whole(0).at()
	d[at] = block
	if m, err := Read(d, size); err != nil || m.Version != "1.2" || m.Name != "web:root" {
		t.Errorf("Read = %+v, %v", m, err)
	}
	delete(d, 4096)
	if m, err := Read(d, size); err != nil || m.Version != "1.0" || m.Name != "web:old" || m.At != at {
		t.Errorf("Read = %+v, %v", m, err)
	}
}

var errRead = errors.New("input/output error")

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, errRead }

func TestADiskThatCannotBeReadIsAnotherError(t *testing.T) {
	if _, err := Read(failing{}, size); !errors.Is(err, errRead) || errors.Is(err, ErrSuperblock) {
		t.Errorf("Read: error %v", err)
	}
}
