package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
)

// stepper is a worker whose tasks take steps, which it keeps in a file as a migration
// keeps its record: one that was stopped goes on where it was.
type stepper struct {
	folder string
	steps  int
	each   time.Duration

	mu      sync.Mutex
	at      map[string]int // that work now
	twice   []string       // that two worked on at a time
	failing map[string]error
	hold    bool
}

func (s *stepper) Work(ctx context.Context, j Job) (Result, error) {
	s.enter(j.ID)
	defer s.leave(j.ID)
	if err := s.fails(j.ID); err != nil {
		return Result{}, err
	}
	if j.Task == Clear {
		return Result{}, os.RemoveAll(filepath.Join(s.folder, j.ID))
	}
	if s.hold && j.Plan.Digest == "" {
		j.Tell(Update{Plan: model.PlanSummary{Digest: digestOf("plan"), Changes: 3}})
		return Result{Held: true}, nil
	}
	for {
		n := s.count(j.ID)
		if n >= s.steps {
			return Result{Verdict: model.VerdictProved}, nil
		}
		select {
		case <-ctx.Done():
			return Result{}, context.Cause(ctx)
		case <-time.After(s.each):
		}
		if time.Now().After(j.Lease()) {
			return Result{}, ErrLease
		}
		at := filepath.Join(s.folder, j.ID)
		err := os.WriteFile(at+".new", []byte(strings.Repeat(".", n+1)), 0o600)
		if err := errors.Join(err, os.Rename(at+".new", at)); err != nil { // who reads it finds a whole one
			return Result{}, err
		}
		j.Tell(Update{Text: fmt.Sprintf("step %d", n+1), Stages: []model.Stage{{Name: model.StageNameFetch, State: model.StageStateRunning, Reason: fmt.Sprint(n + 1)}}})
	}
}

func (s *stepper) count(id string) int {
	text, _ := os.ReadFile(filepath.Join(s.folder, id)) // none before the first step
	return len(text)
}

func (s *stepper) enter(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil {
		s.at = map[string]int{}
	}
	if s.at[id]++; s.at[id] > 1 {
		s.twice = append(s.twice, id)
	}
}

func (s *stepper) leave(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at[id]--
}

func (s *stepper) working() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.at {
		n += c
	}
	return n
}

func (s *stepper) fails(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failing[id]
}

func (s *stepper) fail(id string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failing == nil {
		s.failing = map[string]error{}
	}
	s.failing[id] = err
}

// quick is a worker that takes few milliseconds.
func quick(t testing.TB) *stepper {
	return &stepper{folder: t.TempDir(), steps: 3, each: time.Millisecond}
}
