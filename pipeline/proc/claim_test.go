package proc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// claimed has a name until the process is killed.
func claimed(name string) error {
	if _, err := Claim(name); err != nil {
		return err
	}
	fmt.Println("claimed")
	select {}
}

// A name is one process's, and free again when that one was killed.
func TestANameIsClaimedByOneProcess(t *testing.T) {
	name := "test-" + strconv.Itoa(os.Getpid())
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), roleEnv+"=claim "+name)
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "claimed\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	if _, err := Claim(name); !errors.Is(err, ErrClaimed) {
		t.Errorf("a name that another process has: %v", err)
	}
	why := errors.New("not wanted any more")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 2*between, why)
	defer cancel()
	if _, err := AwaitClaim(ctx, name); !errors.Is(err, ErrClaimed) || !errors.Is(err, why) {
		t.Errorf("a name that was waited for in vain: %v", err)
	}
	time.AfterFunc(2*between, func() { _ = other.Process.Kill() })
	mine, err := AwaitClaim(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Wait(); err == nil {
		t.Error("the other process was not killed")
	}
	if _, err := Claim(name); !errors.Is(err, ErrClaimed) {
		t.Errorf("a name that this process has: %v", err)
	}
	if err := mine.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Claim(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}
