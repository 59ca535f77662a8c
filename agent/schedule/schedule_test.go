package schedule

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // a machine without zones is tested too

	"hyper2kvm/pipeline/week"
)

// spans are days around which clocks are set, and quiet ones.
var spans = []struct{ zone, from, why string }{
	{"UTC", "2026-11-23", "no summer time"},
	{"Europe/Berlin", "2026-03-27", "forward at two in the night"},
	{"Europe/Berlin", "2026-10-23", "back at three"},
	{"America/New_York", "2026-10-30", "back at two"},
	{"America/Sao_Paulo", "2018-11-02", "forward at midnight: a day begins at one"},
	{"America/Sao_Paulo", "2018-02-16", "back at midnight: a day's last hour is there twice"},
	{"Australia/Lord_Howe", "2026-10-02", "forward by half an hour"},
	{"Australia/Lord_Howe", "2026-04-03", "back by half an hour"},
	{"Pacific/Apia", "2011-12-28", "a Friday was left out"},
	{"Asia/Kathmandu", "2026-06-01", "a quarter of an hour off"},
	{"Africa/Casablanca", "2026-02-13", "back for a month of fasting"},
}

var lists = [][]string{
	{},
	{"mon-fri 20:00-06:00"},
	{"sat,sun 00:00-24:00"},
	{"sat,sun"},
	{"02:15-02:45"},
	{"sun 02:15-02:45"},
	{"sun 23:30-00:30", "mon 00:30-00:45"},
	{"fri 20:00-06:00"},
	{"sat 00:00-00:01", "tue 23:59-24:00"},
	{"00:00-12:00", "12:00-24:00"},
	{"mon-sun 06:00-05:59"},
	{"fri-mon 22:10-02:20", "wed 01:00-03:00", "wed 02:00-04:00"},
}

// naive is the definition: the windows are written on the 10080 minutes of a week,
// and what the clock on the wall shows is looked up.
type naive [7 * 24 * 60]bool

func byHand(windows []string) (n naive) {
	if len(windows) == 0 {
		windows = []string{"mon-sun 00:00-24:00"}
	}
	for _, text := range windows {
		days, hours, _ := strings.Cut(text, " ")
		if strings.Contains(days, ":") {
			days, hours = "mon-sun", days
		}
		if hours == "" {
			hours = "00:00-24:00"
		}
		var h1, m1, h2, m2 int
		if _, err := fmt.Sscanf(hours, "%d:%d-%d:%d", &h1, &m1, &h2, &m2); err != nil {
			panic(err)
		}
		from, to := h1*60+m1, h2*60+m2
		if to <= from {
			to += 24 * 60
		}
		for _, day := range daysOf(days) {
			for m := from; m < to; m++ {
				n[(day*24*60+m)%len(n)] = true
			}
		}
	}
	return n
}

func daysOf(text string) (days []int) {
	const names = "sunmontuewedthufrisat"
	for part := range strings.SplitSeq(text, ",") {
		a, b := part[:3], part[len(part)-3:]
		for d := strings.Index(names, a) / 3; ; d = (d + 1) % 7 {
			days = append(days, d)
			if d == strings.Index(names, b)/3 {
				break
			}
		}
	}
	return days
}

func (n *naive) open(t time.Time) bool {
	return n[(int(t.Weekday())*24+t.Hour())*60+t.Minute()]
}

// Minute by minute through twelve days, against the definition. Times in between
// are the minute's.
func TestEveryMinute(t *testing.T) {
	for _, span := range spans {
		zone, err := time.LoadLocation(span.zone)
		if err != nil {
			t.Fatal(err)
		}
		began, err := time.ParseInLocation(time.DateOnly, span.from, zone)
		if err != nil {
			t.Fatal(err)
		}
		for _, list := range append(lists, random(span.from)...) {
			t.Run(fmt.Sprintf("%s %s %q", span.zone, span.why, list), func(t *testing.T) { everyMinute(t, began, list) })
		}
	}
}

func everyMinute(t *testing.T, began time.Time, list []string) {
	windows, err := Parse(list)
	if err != nil {
		t.Fatal(err)
	}
	const days, ahead = 12, 16
	want := byHand(list)
	var opens, closes time.Time // the first from the minute on, found from the end
	for m := (days + ahead) * 24 * 60; m >= 0; m-- {
		at := began.Add(time.Duration(m) * time.Minute)
		if want.open(at) {
			opens = at
		} else {
			closes = at
		}
		if m > days*24*60 {
			continue
		}
		if got := Open(at, windows); got != want.open(at) {
			t.Fatalf("Open(%v) = %v, want %v", at, got, want.open(at))
		}
		if got := Next(at, windows); !got.Equal(opens) {
			t.Fatalf("Next(%v) = %v, want %v", at, got, opens)
		}
		if m%7 != 0 && closes.IsZero() { // to find that they never close takes long
			continue
		}
		if got := Closes(at, windows); !got.Equal(closes) {
			t.Fatalf("Closes(%v) = %v, want %v", at, got, closes)
		}
	}
}

// random are lists that nobody thought of, the same in each run.
func random(seed string) (lists [][]string) {
	r := rand.New(rand.NewPCG(uint64(len(seed)), uint64(seed[6])<<8|uint64(seed[8])))
	names := []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}
	clock := func() string { return fmt.Sprintf("%02d:%02d", r.IntN(24), r.IntN(12)*5) }
	for range 12 {
		var list []string
		for range 1 + r.IntN(4) {
			from, to := clock(), clock()
			if from == to {
				to = "24:00"
			}
			list = append(list, names[r.IntN(7)]+"-"+names[r.IntN(7)]+" "+from+"-"+to)
		}
		lists = append(lists, list)
	}
	return lists
}

func TestTimesBetweenMinutesAreExact(t *testing.T) {
	windows, err := Parse([]string{"20:00-06:00"})
	if err != nil {
		t.Fatal(err)
	}
	noon := time.Date(2026, 11, 26, 12, 34, 56, 789, time.UTC)
	if got, want := Next(noon, windows), time.Date(2026, 11, 26, 20, 0, 0, 0, time.UTC); !got.Equal(want) {
		t.Errorf("Next = %v, want %v", got, want)
	}
	night := time.Date(2026, 11, 26, 23, 59, 59, 999_999_999, time.UTC)
	if got := Next(night, windows); !got.Equal(night) {
		t.Errorf("Next = %v, want %v, when they are open", got, night)
	}
	if got, want := Closes(night, windows), time.Date(2026, 11, 27, 6, 0, 0, 0, time.UTC); !got.Equal(want) {
		t.Errorf("Closes = %v, want %v", got, want)
	}
}

// Windows and lockouts together, minute by minute against the definition.
func TestLockoutsAreKept(t *testing.T) {
	began := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct{ windows, lockouts []string }{
		{nil, []string{"mon-fri 08:00-18:00"}},
		{[]string{"mon-fri 20:00-06:00"}, []string{"tue 22:00-02:00", "wed 00:00-24:00"}},
		{[]string{"sat 00:00-24:00"}, []string{"sat 00:00-24:00"}},
		{nil, []string{"mon-sun 00:00-24:00"}},
		{[]string{"02:00-04:00"}, nil},
	} {
		windows, err := Parse(c.windows)
		if err != nil {
			t.Fatal(err)
		}
		lockouts, err := Parse(c.lockouts)
		if err != nil {
			t.Fatal(err)
		}
		in, out := byHand(c.windows), naive{}
		if len(c.lockouts) > 0 {
			out = byHand(c.lockouts)
		}
		var next time.Time // the first from the minute on, found from the end
		for m := 14 * 24 * 60; m >= 0; m-- {
			at := began.Add(time.Duration(m) * time.Minute)
			allowed := in.open(at) && !out.open(at)
			if allowed {
				next = at
			}
			if m > 7*24*60 || next.IsZero() && m%97 != 0 {
				continue
			}
			if got := Allowed(at, windows, lockouts); got != allowed {
				t.Fatalf("%q without %q: Allowed(%v) = %v", c.windows, c.lockouts, at, got)
			}
			if got := NextAllowed(at, windows, lockouts); !got.Equal(next) {
				t.Fatalf("%q without %q: NextAllowed(%v) = %v, want %v", c.windows, c.lockouts, at, got, next)
			}
		}
	}
}

func TestAWindowThatCannotBeReadIsNamed(t *testing.T) {
	_, err := Parse([]string{"sat,sun", "someday"})
	if !errors.Is(err, week.ErrWindow) || !strings.Contains(err.Error(), `window 2: `) || !strings.Contains(err.Error(), `"someday"`) {
		t.Errorf("Parse = %v", err)
	}
}

// The most windows that a migration may have, on days when all is shut.
func BenchmarkNext(b *testing.B) {
	var list []string
	for i := range 32 {
		list = append(list, fmt.Sprintf("sun %02d:%02d-%02d:%02d", i/2, i%2*30, i/2, i%2*30+7))
	}
	windows, err := Parse(list)
	if err != nil {
		b.Fatal(err)
	}
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	for b.Loop() {
		Next(now, windows)
	}
}
