package dashboard

import (
	"fmt"
	"strings"
	"time"

	"hyper2kvm/agent/api/model"
)

func (p *page) running(j Jobs) {
	waits := j.waits()
	if len(j.Running) == 0 && waits == "" {
		return
	}
	p.head("Migrations")
	for _, job := range j.Running {
		p.row(normal, job.runs(p.width-indent))
	}
	if j.More {
		p.row(normal, "and more")
	}
	if waits != "" {
		p.say(normal, indent, waits)
	}
}

// waits is what waits, and what for.
func (j Jobs) waits() string {
	var said []string
	for _, v := range []struct {
		state model.State
		what  string
	}{{model.StateQueued, "wait for their turn"}, {model.StatePlanned, "wait for their plan to be approved"}, {model.StatePaused, "are paused"}} {
		if n := j.Waiting[v.state]; n > 0 {
			said = append(said, fmt.Sprintf("%d %s", n, v.what))
		}
	}
	if j.Uncounted {
		said = append(said, "more wait")
	}
	return strings.Join(said, ", ")
}

// narrow is the width under which a job's line has no bar.
const narrow = 60

func (j Job) runs(width int) string {
	room := width / 4
	text := fmt.Sprintf("%-*s %-8s", room, fit(plain(j.Name), room), j.Stage)
	switch {
	case j.Total > 0 && width < narrow:
		text += fmt.Sprintf(" %3.0f%%", 100*float64(j.Done)/float64(j.Total))
	case j.Total > 0:
		text += fmt.Sprintf(" %s of %s", bar(j.Done, j.Total, room), size(j.Total))
	}
	if !j.Here {
		text += " elsewhere"
	}
	return text
}

func (p *page) ended(j Jobs) {
	if len(j.Ended) == 0 {
		return
	}
	p.head("Ended last")
	for _, job := range j.Ended {
		s, what := normal, string(job.State)
		switch {
		case job.State == model.StateFailed:
			s, what = bad, "failed: "+job.Why
		case job.Verdict != "":
			what = string(job.Verdict)
		}
		if job.Verdict == model.VerdictProved {
			s = good
		}
		p.row(s, fmt.Sprintf("%-*s %s  %s", p.width/3, fit(plain(job.Name), p.width/3), job.At.Format(time.DateTime[:16]), what))
	}
}
