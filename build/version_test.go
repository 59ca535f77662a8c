package build

import (
	"regexp"
	"strings"
	"testing"

	"hyper2kvm/pipeline/proc"
)

func printed(t *testing.T, args ...string) string {
	t.Helper()
	out, err := proc.Run(t.Context(), "bash", append([]string{"version"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func TestAVersionIsOneThatUpdatesTake(t *testing.T) {
	this, next := printed(t), printed(t, "--next")
	if !regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.^~-]*$`).MatchString(this) || !strings.HasPrefix(next, this) || next == this {
		t.Errorf("build/version prints %q, and %q as the next", this, next)
	}
}
