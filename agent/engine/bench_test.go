package engine

import (
	"fmt"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
)

// many is how many migrations have ended long ago on the appliance of these benchmarks.
const many = 5000

// aged is an engine that has seen many migrations.
func aged(b *testing.B) Config {
	b.Helper()
	c := config(b, quick(b))
	e, err := Open(b.Context(), c)
	if err != nil {
		b.Fatal(err)
	}
	for i := range many {
		id := fmt.Sprintf("old%d", i)
		r := newRecord(id, spec(), id, "ops", "", time.Now().UTC())
		r.State, r.Verdict, r.Epoch = model.StateDone, model.VerdictProved, 1
		r.end(time.Now(), model.Problem{}, nil)
		text, err := r.encode()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := e.bus.jobs.Create(b.Context(), id, text); err != nil {
			b.Fatal(err)
		}
	}
	for len(e.table.all()) < many || len(e.events) > 0 {
		time.Sleep(10 * time.Millisecond)
	}
	if err := e.Close(); err != nil {
		b.Fatal(err)
	}
	return c
}

// BenchmarkOpenWithHistory is how long an engine takes to open that has seen many
// migrations, and one of its passes over them then.
func BenchmarkOpenWithHistory(b *testing.B) {
	c := aged(b)
	var pass time.Duration
	for b.Loop() {
		e, err := Open(b.Context(), c)
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		e.pass(b.Context())
		pass += time.Since(began)
		b.StopTimer()
		if err := e.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(pass.Microseconds())/float64(b.N), "µs/pass")
}
