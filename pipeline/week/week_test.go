package week

import (
	"encoding/json"
	"errors"
	"testing"
	"time"
)

const hour = time.Hour

func TestWindowsAreRead(t *testing.T) {
	for text, want := range map[string]Window{
		"08:00-18:00":           {From: 8 * hour, To: 18 * hour},
		"8:00-18:00":            {From: 8 * hour, To: 18 * hour},
		"22:00-06:00":           {From: 22 * hour, To: 6 * hour},
		"sat,sun":               {Days: [7]bool{0: true, 6: true}},
		"sat,sun 00:00-24:00":   {Days: [7]bool{0: true, 6: true}},
		"fri-mon 12:30-24:00":   {Days: [7]bool{0: true, 1: true, 5: true, 6: true}, From: 12*hour + 30*time.Minute},
		" Mon-Fri  20:00-06:00": {Days: [7]bool{1: true, 2: true, 3: true, 4: true, 5: true}, From: 20 * hour, To: 6 * hour},
	} {
		if got, err := Parse(text); err != nil || got != want {
			t.Errorf("Parse(%q) = %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", " ", "always", "mon 8-18", "08:00", "24:00-06:00", "25:00-26:00", "mon-", "08:00-18:00 mon",
		"mon 08:00-18:00 x", "08:00-08:00", "00:00-00:00", "08:60-09:00", "mon,,tue", "08:00-18:00-20:00"} {
		if got, err := Parse(text); !errors.Is(err, ErrWindow) {
			t.Errorf("Parse(%q) = %+v, %v, want %v", text, got, err, ErrWindow)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"mon-fri 20:00-06:00", "sat,sun 00:00-24:00", "08:00-18:00", "sun"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		w, err := Parse(text)
		if err == nil && (w.From < 0 || w.From >= 24*hour || w.To < 0 || w.To >= 24*hour) {
			t.Errorf("Parse(%q) = %+v, which is no time of day", text, w)
		}
	})
}

// Records of migrations hold windows.
func TestAWindowIsKept(t *testing.T) {
	want := Window{Days: [7]bool{1: true}, From: 20 * hour, To: 6 * hour}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	const kept = `{"days":[false,true,false,false,false,false,false],"From":72000000000000,"To":21600000000000}`
	var got Window
	if err := json.Unmarshal([]byte(kept), &got); err != nil || got != want || string(data) != kept {
		t.Errorf("%s is read as %+v, %v, and written as %s", kept, got, err, data)
	}
}
