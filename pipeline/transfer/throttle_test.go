package transfer

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"hyper2kvm/pipeline/week"
)

func TestLimitsAreRead(t *testing.T) {
	hour := time.Hour
	workdays := [7]bool{1: true, 2: true, 3: true, 4: true, 5: true}
	for text, want := range map[string]Limit{
		"50M":                     {Rate: 50 << 20},
		"1024":                    {Rate: 1024},
		"2g":                      {Rate: 2 << 30},
		"10MB/s":                  {Rate: 10 << 20},
		"08:00-18:00=20M":         {20 << 20, week.Window{From: 8 * hour, To: 18 * hour}},
		"22:00-06:00=unlimited":   {0, week.Window{From: 22 * hour, To: 6 * hour}},
		"fri-mon=1K":              {1 << 10, week.Window{Days: [7]bool{0: true, 1: true, 5: true, 6: true}}},
		"tue,thu 12:30-24:00=1K":  {1 << 10, week.Window{Days: [7]bool{2: true, 4: true}, From: 12*hour + 30*time.Minute}},
		"Mon-Fri 08:00-18:00 =2M": {2 << 20, week.Window{Days: workdays, From: 8 * hour, To: 18 * hour}},
	} {
		if got, err := ParseLimit(text); err != nil || got != want {
			t.Errorf("ParseLimit(%q) = %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "-5M", "fast", "M", "9999999999G", "08:00=5M", "8-18=5M", "mon 08:00-18:00 x=5M", "someday=5M", "25:00-26:00=5M", "=5M"} {
		if got, err := ParseLimit(text); !errors.Is(err, ErrLimit) {
			t.Errorf("ParseLimit(%q) = %+v, %v, want %v", text, got, err, ErrLimit)
		}
	}
}

func TestTheFirstLimitThatHoldsIsTaken(t *testing.T) {
	var limits []Limit
	for _, text := range []string{"mon-fri 08:00-18:00=10M", "fri 22:00-04:00=unlimited", "50M"} {
		l, err := ParseLimit(text)
		if err != nil {
			t.Fatal(err)
		}
		limits = append(limits, l)
	}
	b := newThrottle(limits)
	for at, want := range map[string]rate.Limit{
		"2026-11-26 08:00": 10 << 20, // a Thursday
		"2026-11-26 17:59": 10 << 20,
		"2026-11-26 18:00": 50 << 20,
		"2026-11-26 23:00": 50 << 20,
		"2026-11-27 23:00": rate.Inf, // Friday night
		"2026-11-28 03:59": rate.Inf, // which is over at four on Saturday
		"2026-11-28 04:00": 50 << 20,
		"2026-11-27 03:00": 50 << 20,
		"2026-11-28 12:00": 50 << 20,
	} {
		now, err := time.ParseInLocation("2006-01-02 15:04", at, time.Local)
		if err != nil {
			t.Fatal(err)
		}
		b.now = func() time.Time { return now }
		if got := b.rate(); got != want {
			t.Errorf("at %s the rate is %v, want %v", at, got, want)
		}
		if err := b.wait(t.Context(), 0); err != nil {
			t.Error(err)
		}
	}
}

// What is verified is held back like what is copied.
func TestALimitHoldsReadersBack(t *testing.T) {
	r := limited{&memory{data: make([]byte, 2*burst)}, newThrottle([]Limit{{Rate: 1}})}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if err := r.Read(ctx, make([]byte, burst), 0); err != nil {
		t.Errorf("what may be read at once: %v", err)
	}
	if err := r.Read(ctx, make([]byte, burst), 0); err == nil { // would take 48 days
		t.Error("it was read as fast as can be")
	}
}

// Whoever waits when another limit begins to hold goes on by that one.
func TestAWaitGoesOnByTheLimitThatHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin, five := time.Now(), time.Date(2026, 11, 26, 17, 0, 0, 0, time.Local)
		day := Limit{Rate: 1, Window: week.Window{From: 8 * time.Hour, To: 18 * time.Hour}}
		b := newThrottle([]Limit{day})
		b.now = func() time.Time { return five.Add(time.Since(begin)) }
		if err := b.wait(t.Context(), burst); err != nil { // may be read at once
			t.Fatal(err)
		}
		var waiting sync.WaitGroup
		for range 3 {
			waiting.Go(func() {
				if err := b.wait(t.Context(), burst); err != nil { // would take 48 days
					t.Error(err)
				}
			})
		}
		waiting.Wait()
		if took := time.Since(begin); took < time.Hour || took > time.Hour+2*lookAgain {
			t.Errorf("they waited for %v, want one hour: until the limit no longer holds", took)
		}
	})
}
