package authtest_test

import (
	"testing"

	"hyper2kvm/agent/auth"
	"hyper2kvm/agent/auth/authtest"
)

func TestMemoryIsAStore(t *testing.T) {
	authtest.TestStore(t, func(*testing.T) auth.Store { return &authtest.Memory{} })
}
