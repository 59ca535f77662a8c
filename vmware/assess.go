package vmware

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Rates are what an assessment reckons with. They are stated, and not measured: the
// result repeats them.
type Rates struct {
	Link     int64   `json:"link"`     // bytes a second that the network carries
	Disk     int64   `json:"disk"`     // bytes a second at which one disk is read
	Parallel int     `json:"parallel"` // disks that are read at a time; 1 if zero
	Share    float64 `json:"share"`    // of Link, that a migration gets at worst; 0.5 if zero
	// Fixed is what each VM takes beside its bytes, at least: inspection, fixes, a boot.
	Fixed time.Duration `json:"fixed"`
}

// filled has also what was not said.
func (r Rates) filled() Rates {
	r.Parallel, r.Share = max(1, r.Parallel), cmp.Or(r.Share, 0.5)
	return r
}

// Range is a time that a migration may take.
type Range struct {
	Least time.Duration `json:"least"`
	Most  time.Duration `json:"most"`
}

// Sum is what VMs come to together. Sizes are in bytes.
type Sum struct {
	VMs      int   `json:"vms"`
	Disks    int   `json:"disks"`
	Size     int64 `json:"size"`     // of the disks, as the guests see them
	Used     int64 `json:"used"`     // of the datastores; what is not known counts as all
	Unknown  int   `json:"unknown"`  // VMs whose use of the datastores is not known
	Target   int64 `json:"target"`   // space on the target that must be there: all may be written in time
	Work     int64 `json:"work"`     // space in the work folder, for what is changed
	NFC      int64 `json:"nfc"`      // more of it where disks are read by NFC, which are kept there meanwhile
	Time     Range `json:"time"`     // of reading it, once
	Blockers int   `json:"blockers"` // VMs with any
	Warnings int   `json:"warnings"` // VMs with any, and without blockers
	Concerns int   `json:"concerns"` // of all, but for infos
}

// Assessed is one VM's part of an assessment.
type Assessed struct {
	Ref  string `json:"ref"`
	Name string `json:"name"`
	Path string `json:"path"`
	Wave string `json:"wave,omitempty"`
	Sum
}

// Assessment says what migrating VMs takes.
type Assessment struct {
	Rates Rates          `json:"rates"`
	VMs   []Assessed     `json:"vms"`
	Waves map[string]Sum `json:"waves"`
	Total Sum            `json:"total"`
}

// workSpace is what the overlay of one VM takes at most, as a rule: edits, drivers, and
// what its rehearsals write.
const workSpace = 2 << 30

// Assess says what migrating some VMs takes. wave names the wave of a VM; nil: there
// are none.
func Assess(rows []Row, r Rates, wave func(VM) string) Assessment {
	r = r.filled()
	a := Assessment{Rates: r, Waves: map[string]Sum{}}
	waves := map[string][]Row{}
	for _, row := range rows {
		v := Assessed{Ref: row.Ref, Name: row.Name, Path: row.Path, Sum: sum([]Row{row}, r)}
		if wave != nil {
			v.Wave = wave(row.VM)
			waves[v.Wave] = append(waves[v.Wave], row)
		}
		a.VMs = append(a.VMs, v)
	}
	for name, list := range waves {
		a.Waves[name] = sum(list, r)
	}
	a.Total = sum(rows, r)
	if len(waves) > 0 { // one wave after the other
		a.Total.Time = Range{}
		for _, w := range slices.Collect(maps.Values(a.Waves)) {
			a.Total.Time.Least += w.Time.Least
			a.Total.Time.Most += w.Time.Most
		}
	}
	return a
}

// sum is what VMs come to that are migrated together.
func sum(rows []Row, r Rates) Sum {
	s := Sum{VMs: len(rows)}
	var least, most []int64 // bytes of each disk
	for _, row := range rows {
		size, used := row.size(), row.Used
		if used <= 0 {
			used = size
			s.Unknown++
		}
		s.Disks, s.Size, s.Used = s.Disks+len(row.Disks), s.Size+size, s.Used+used
		for _, d := range row.Disks {
			s.NFC += d.Holds()
			most = append(most, d.Size)
			least = append(least, min(d.Size, cmp.Or(d.Used, scaled(d.Size, used, size))))
		}
		s.judge(row.Concerns)
	}
	s.Target, s.Work = s.Size, int64(len(rows))*workSpace
	fixed := time.Duration(len(rows)) * r.Fixed
	s.Time = Range{fixed/time.Duration(r.Parallel) + reading(least, r, 1), fixed + reading(most, r, r.Share)}
	return s
}

func (s *Sum) judge(list []Concern) {
	blocked, warned := false, false
	for _, c := range list {
		blocked, warned = blocked || c.Level == Blocker, warned || c.Level == Warning
		if c.Level != Info {
			s.Concerns++
		}
	}
	switch {
	case blocked:
		s.Blockers++
	case warned:
		s.Warnings++
	}
}

// scaled is a disk's part of what a VM uses of the datastores.
func scaled(part, used, size int64) int64 {
	if size <= 0 {
		return 0
	}
	return int64(float64(used) * float64(part) / float64(size))
}

// reading is how long reading disks takes: the link, or as many disks at a time as may
// be, or the largest disk alone, whichever is slowest.
func reading(disks []int64, r Rates, share float64) time.Duration {
	var all, largest int64
	for _, n := range disks {
		all, largest = all+n, max(largest, n)
	}
	seconds := 0.0
	if r.Link > 0 {
		seconds = float64(all) / (float64(r.Link) * share)
	}
	if r.Disk > 0 {
		at := min(r.Parallel, max(1, len(disks)))
		seconds = max(seconds, float64(all)/float64(r.Disk)/float64(at), float64(largest)/float64(r.Disk))
	}
	return time.Duration(seconds * float64(time.Second)).Round(time.Second)
}
