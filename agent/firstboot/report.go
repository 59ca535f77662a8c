package firstboot

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"time"
)

// ReportPath is where a boot's report lies, below the root folder.
const ReportPath = "run/hyper2kvm/first-boot.json"

// Report is what first boot has seen and done. It holds no secret.
type Report struct {
	Made     time.Time `json:"made"`
	Sources  []Source  `json:"sources"` // those that say something, the one that counts most last
	Applied  []Applied `json:"applied"`
	Network  string    `json:"network"`  // in a sentence
	Changed  []string  `json:"changed"`  // files that were written or removed
	Notes    []string  `json:"notes"`    // what lies over something else
	Problems []string  `json:"problems"` // sentences; none if all is well
}

// Source is one that says something.
type Source struct {
	Name string   `json:"name"`
	Keys []string `json:"keys"`
}

// Applied is a key that counts.
type Applied struct {
	Key    string `json:"key"`
	Source string `json:"source"`
	Value  string `json:"value,omitempty"` // none of secrets, and of texts of several lines
}

// ReadReport reads the report of this boot; fs.ErrNotExist if there is none.
func ReadReport(root string) (r Report, err error) {
	f, err := os.Open(filepath.Join(root, ReportPath))
	if err != nil {
		return r, err
	}
	defer f.Close()
	const most = 1 << 20
	err = json.NewDecoder(io.LimitReader(f, most)).Decode(&r)
	return r, err
}

func (r Report) write(root string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	_, err = file{ReportPath, 0o644, string(text) + "\n"}.write(root)
	return err
}

// tell adds what sources say, and what of it counts.
func (r *Report) tell(sources []*source, t *settling) {
	for _, s := range sources {
		r.Problems = append(r.Problems, s.problems...)
		var names []string
		for _, k := range keys {
			if s.said[k.name] != "" {
				names = append(names, k.name)
			}
		}
		if len(names) > 0 {
			r.Sources = append(r.Sources, Source{s.name, names})
		}
	}
	for _, k := range keys {
		e, ok := t.said[k.name]
		if !ok {
			continue
		}
		a := Applied{Key: k.name, Source: e.source}
		if !k.secret && k.file == "" {
			a.Value = e.text
		}
		r.Applied = append(r.Applied, a)
	}
	r.Problems = append(r.Problems, t.problems...)
	r.Network = t.sentence()
}
