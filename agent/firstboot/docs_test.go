package firstboot

import (
	"os"
	"strings"
	"testing"
)

// TestTheDocsHaveEveryKeyAndFile: each once, in its table.
func TestTheDocsHaveEveryKeyAndFile(t *testing.T) {
	text, err := os.ReadFile("../../docs/appliance.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, k := range keys {
		rows = append(rows, "\n| `"+k.name+"` | "+k.description+" | `"+k.example+"` |\n")
	}
	for _, path := range owned {
		rows = append(rows, "\n| `/"+path+"` |")
	}
	for _, row := range rows {
		if strings.Count(string(text), row) != 1 {
			t.Errorf("docs/appliance.md lacks the row %s", row)
		}
	}
}
