// Package guesttest is the conformance suite of the engines that reach a
// guest's files. What a fixer may rely on is said here once, as tests, and
// every engine passes them.
package guesttest

import (
	"errors"
	"path"
	"testing"

	"hyper2kvm/fixers/guest"
)

// Disk is an engine under test. Guests have hard links and pipes, which no
// engine needs to make, so the test of an engine adds two ways to make them.
type Disk interface {
	guest.FS
	Link(old, name string) error
	Pipe(name string) error
}

// Run holds an engine to all that is promised of guest.FS. Each call of open
// returns an empty guest with extended attributes; Clear empties one for reuse.
func Run(t *testing.T, open func(t *testing.T) Disk) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Disk)
	}{
		{"NamesStayInsideTheRoot", namesStayInside},
		{"NamesBelowAFileDoNotExist", namesBelowFiles},
		{"LinksThatLoopAreErrors", loops},
		{"AbsentFilesAreErrNotExist", absent},
		{"ReadsAreLimited", limits},
		{"OnlyRegularFilesAreRead", onlyRegular},
		{"FoldersAreListedInOrder", folders},
		{"AWriteKeepsWhatItDoesNotName", writesKeep},
		{"AWriteAtAnOffsetCutsBehind", offsets},
		{"ALargeFileIsReadAndWritten", large},
		{"TruncateCuts", truncates},
		{"ANewFileIsPrivate", newFiles},
		{"NothingIsReplacedUnasked", collisions},
		{"SpaceIsThatOfTheFileSystem", space},
		{"RemoveTakesFilesLinksAndEmptyFolders", removes},
		{"MetaIsSetWhole", metas},
		{"BinaryAttributesAreKeptOrRefused", binaryAttributes},
		{"AccessListsAreKept", accessLists},
		{"ALinkHasItsOwnMeta", linkMeta},
		{"StrangeNamesAreKept", strangeNames},
		{"WhatIsPlannedIsAppliedAndUndone", roundTrip},
		{"AnAppendIsAppliedAndUndone", appends},
		{"AnInterruptedPlanIsRefused", conflicts},
		{"HardLinksSurviveAnEdit", editsHardLinks},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// Clear removes everything from a guest but lost+found.
func Clear(f guest.FS) error {
	list, err := f.ReadDir("/")
	if err != nil {
		return err
	}
	for _, info := range list {
		if info.Name == "lost+found" {
			continue
		}
		if err := removeAll(f, "/"+info.Name, info); err != nil {
			return err
		}
	}
	return nil
}

func removeAll(f guest.FS, name string, info guest.Info) error {
	if info.Mode.IsDir() {
		list, err := f.ReadDir(name)
		if err != nil {
			return err
		}
		for _, kid := range list {
			if err := removeAll(f, path.Join(name, kid.Name), kid); err != nil {
				return err
			}
		}
	}
	return f.Remove(name)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, f guest.FS, name, data string) {
	t.Helper()
	must(t, f.WriteFile(name, 0, []byte(data)))
}

func wantData(t *testing.T, f guest.Reader, name, want string) {
	t.Helper()
	data, err := f.ReadFile(name, 1<<20)
	if err != nil || string(data) != want {
		t.Errorf("ReadFile(%q) = %q, %v, want %q", name, data, err, want)
	}
}

func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

func lstat(t *testing.T, f guest.Reader, name string) guest.Info {
	t.Helper()
	info, err := f.Lstat(name)
	must(t, err)
	return info
}
