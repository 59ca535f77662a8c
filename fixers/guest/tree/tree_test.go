package tree_test

import (
	"testing"

	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/fixers/guest/tree"
)

func TestATreeIsAnEngine(t *testing.T) {
	guesttest.Run(t, func(*testing.T) guesttest.Disk { return tree.New() })
}
