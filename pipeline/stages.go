package pipeline

import "context"

// Stage is one step of a migration.
type Stage struct {
	Name string
	Does string
	run  func(context.Context) error
	// resume brings back what a stage that is done keeps in this process:
	// servers and opened guests do not outlive the process that made them.
	resume func(context.Context) error
	// drop undoes what a stage left half made. It runs before the stage is
	// run once more.
	drop func(context.Context) error
	// programs are looked for before the first stage runs.
	programs []string
}

// stages is the canonical pipeline; nothing else knows the order.
func (r *Run) stages() []Stage {
	return []Stage{
		{"fetch", "open the source, read-only", r.fetch, r.openSources, nil, []string{"qemu-img", "qemu-storage-daemon"}},
		{"flatten", "put one writable overlay over every disk", r.flatten, r.openOverlays, r.dropOverlays, []string{"qemu-img", "qemu-storage-daemon"}},
		{"inspect", "read what is installed on the disks", r.inspect, nil, r.renewOverlays, nil},
		{"plan", "work out every change, touching nothing", r.plan, nil, r.renewOverlays, nil},
		{"fix", "apply the planned changes to the overlay", r.fix, nil, r.renewOverlays, nil},
		{"convert", "copy to the target, once", r.convert, nil, nil, []string{"qemu-img", "qemu-storage-daemon"}},
		{"test", "boot a throwaway overlay and watch it come up", r.test, nil, nil, []string{"qemu-img", "qemu-storage-daemon", "qemu-system-x86_64"}},
	}
}

// StageNames are the stages' names in their order.
func StageNames() []string {
	var names []string
	for _, s := range (&Run{}).stages() {
		names = append(names, s.Name)
	}
	return names
}

// Does is what a stage does, for people; "" if there is none of that name.
func Does(stage string) string {
	for _, s := range (&Run{}).stages() {
		if s.Name == stage {
			return s.Does
		}
	}
	return ""
}
