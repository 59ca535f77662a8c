package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"hyper2kvm/agent/problem"
	"hyper2kvm/fixers"
	"hyper2kvm/fixers/fixer"
	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/accel"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/source"
	"hyper2kvm/pipeline/transfer"
	"hyper2kvm/testers"
)

func TestTheVerdictIsWhatTheRunCameTo(t *testing.T) {
	proved := &testers.Outcome{Proved: true}
	for _, c := range []struct {
		outcome *testers.Outcome
		err     error
		want    string
	}{
		{proved, nil, "web01: PROVED to boot on KVM hardware (tcg)"},
		{nil, nil, "web01: done, NOT TESTED"},
		{&testers.Outcome{}, fmt.Errorf("test: %w", pipeline.ErrNotProved), "web01: NOT PROVED to boot"},
		{nil, fmt.Errorf("plan: %w", pipeline.ErrBlocked), "web01: BLOCKED, nothing was converted"},
		{nil, errors.New("x"), "web01: NOT DONE"},
		{proved, errors.New("the report cannot be written"), "web01: NOT DONE"},
	} {
		r := &pipeline.Migration{Name: "web01", Outcome: c.outcome, Accel: accel.Choice{Name: accel.TCG}}
		if got := verdict(r, c.err); got != c.want {
			t.Errorf("verdict(%+v, %v) = %q, want %q", c.outcome, c.err, got, c.want)
		}
	}
}

func TestTheSummaryTellsWhereEverythingIs(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"web01.xml", "web01-report.md"} {
		if err := os.WriteFile(filepath.Join(folder, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := &pipeline.Run{Folder: folder, Migration: &pipeline.Migration{
		Name:  "web01",
		Disks: []transfer.Result{{Path: "/vm/web01-disk0.qcow2", Format: "qcow2", Size: 8 << 30, Allocated: 3 << 29}},
		Plan: &fixers.Plan{Concerns: []fixer.Concern{
			{Level: fixer.Warning, Code: "a/b", Text: "seen", Try: "do this"},
			{Level: fixer.Info, Code: "c", Text: "noted"},
		}},
	}}
	var out bytes.Buffer
	(&app{stdout: &out}).summary(r, nil)
	want := `
web01: done, NOT TESTED
  warning     a/b: seen; do this
  info        c: noted
  disk        /vm/web01-disk0.qcow2 (qcow2, 1.5 GiB of 8 GiB on storage)
  domain      ` + folder + `/web01.xml
  report      ` + folder + `/web01-report.md
`
	if got := out.String(); got != want {
		t.Errorf("it prints\n%s\nwant\n%s", got, want)
	}
}

func TestEveryErrorHasItsExitStatus(t *testing.T) {
	for err, want := range map[error]int{
		nil:                   exitOK,
		errors.New("x"):       exitFailed,
		errUsage:              exitUsage,
		source.ErrBadInput:    exitBadInput,
		disk.ErrTruncated:     exitBadInput,
		pipeline.ErrRecord:    exitBadInput,
		pipeline.ErrBlocked:   exitBlocked,
		pipeline.ErrNotProved: exitNotProved,
		errInterrupted:        exitInterrupted,
		problem.ErrFull:       exitFailed,
		errors.Join(source.ErrBadInput, syscall.ENOSPC):   exitFailed,
		errors.Join(source.ErrBadInput, errInterrupted):   exitInterrupted,
		errors.Join(disk.ErrChain, pipeline.ErrNotProved): exitNotProved,
	} {
		if err != nil {
			err = fmt.Errorf("convert: %w", err)
		}
		if got := exitStatus(err); got != want {
			t.Errorf("exitStatus(%v) = %d, want %d", err, got, want)
		}
	}
}
