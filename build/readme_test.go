package build

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"hyper2kvm/fixers"
	"hyper2kvm/pipeline"
	"hyper2kvm/testers"
)

// row begins a line of README.md's tables.
type row struct {
	what, starts string
}

// unexplained lists the rows that a README's tables lack or have twice.
func unexplained(readme string, rows []row) (wrong []string) {
	for _, r := range rows {
		if n := strings.Count("\n"+readme, "\n| "+r.starts); n != 1 {
			wrong = append(wrong, fmt.Sprintf("%s: README.md has %d rows that begin with %q, want 1", r.what, n, r.starts))
		}
	}
	return wrong
}

// surplus lists the rows of README.md that name a fixer, or anything else with a
// column heading, which is not there any more.
func surplus(readme, heading string, known map[string]bool) (wrong []string) {
	_, table, _ := strings.Cut(readme, "\n| "+heading+" |")
	table, _, _ = strings.Cut(table, "\n\n")
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)`").FindAllStringSubmatch(table, -1) {
		if !known[m[1]] {
			wrong = append(wrong, fmt.Sprintf("README.md tells of the %s %s, which is not there", heading, m[1]))
		}
	}
	return wrong
}

var (
	subCommand = regexp.MustCompile(`\bUse: "(\w+)[ "][^\n]*Short:([^\n]*)`)
	exitStatus = regexp.MustCompile(`(?m)^\texit[A-Z]\w*\s*= (\d+)`)
)

// commandLine is a row for each sub-command and exit status of the agent, whose
// package cannot be imported.
func commandLine(source string) (rows []row) {
	for _, m := range subCommand.FindAllStringSubmatch(source, -1) {
		if !strings.Contains(m[2], "Hidden: true") { // what units run
			rows = append(rows, row{"the command " + m[1], "`hyper2kvm " + m[1]})
		}
	}
	for _, m := range exitStatus.FindAllStringSubmatch(source, -1) {
		rows = append(rows, row{"the exit status " + m[1], m[1] + " |"})
	}
	return rows
}

func TestTheReadmeTellsOfEverything(t *testing.T) {
	readme := text(t, "README.md")
	var rows []row
	fixer, tester := map[string]bool{}, map[string]bool{}
	for _, f := range fixers.All() {
		fixer[f.Name] = true
		rows = append(rows, row{"the fixer " + f.Name, "`" + f.Name + "` | " + f.Why + " |"})
	}
	for _, q := range testers.All() {
		tester[q.Name] = true
		rows = append(rows, row{"the tester " + q.Name, "`" + q.Name + "` | " + q.Why + " |"})
	}
	for _, s := range pipeline.StageNames() {
		rows = append(rows, row{"the stage " + s, strings.ToUpper(s) + " |"})
	}
	report(t, unexplained(readme, rows))
	report(t, surplus(readme, "fixer", fixer))
	report(t, surplus(readme, "tester", tester))
}

func TestTheReadmeTellsOfTheCommandLine(t *testing.T) {
	var source strings.Builder
	for _, file := range files(t) {
		if filepath.Dir(file) == "agent" && filepath.Ext(file) == ".go" {
			source.WriteString(text(t, file))
		}
	}
	rows := commandLine(source.String())
	if len(rows) < 2 {
		t.Fatalf("found %v in agent", rows)
	}
	report(t, unexplained(text(t, "README.md"), rows))
}

func text(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
