package accel

import "testing"

// What this host has is not known; that the probe comes to an answer with a
// reason, and within its deadline, is.
func TestThisHostGetsAChoice(t *testing.T) {
	needVMs(t)
	got, err := Try(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != KVM && got.Name != TCG || got.Reason == "" || got.Took > 2*deadline {
		t.Errorf("Try = %+v", got)
	}
	t.Logf("%+v", got)
}
