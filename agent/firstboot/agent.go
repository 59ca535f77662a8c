package firstboot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hyper2kvm/agent/config"
)

// agent leaves out what the agent could not start with: the further settings, then those
// to join with. Where its settings are wrong without either, that is told.
func (t *settling) agent(root string) error {
	err, failed := t.tryAgent(root)
	if err == nil || failed != nil {
		return failed
	}
	without := *t
	without.Agent = nil
	if better, failed := without.tryAgent(root); failed != nil || better == nil && len(t.Agent) > 0 {
		t.Agent = nil
		t.wrong(err, "settings")
		return failed
	}
	without.JoinToken, without.Hub = nil, ""
	if better, failed := without.tryAgent(root); failed != nil || better == nil {
		t.Agent, t.JoinToken, t.Hub = nil, nil, ""
		t.wrong(err, "join-token", "settings", "hub")
		return failed
	}
	t.problems = append(t.problems, "the agent's own settings: "+err.Error())
	return nil
}

// tryAgent reads the agent's settings as it will: wrong is what it would not start with.
func (t *settling) tryAgent(root string) (wrong, err error) {
	scratch, err := os.MkdirTemp(filepath.Join(root, filepath.Dir(ReportPath)), "settings-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	files, err := others(root)
	if err != nil {
		return nil, err
	}
	for _, f := range wanted(&t.Settings, t.card) {
		if f.path != ownPath && f.path != agentPath {
			continue
		}
		path := filepath.Join(scratch, filepath.Base(f.path))
		if err := os.WriteFile(path, []byte(f.text), 0o600); err != nil {
			return nil, err
		}
		files = append(files, path)
	}
	if len(files) == 0 {
		return nil, nil
	}
	slices.SortStableFunc(files[1:], func(a, b string) int { return strings.Compare(filepath.Base(a), filepath.Base(b)) })
	_, wrong = config.Load(files...)
	return shortened(wrong, scratch+"/", root+"/"), nil
}

// others are the agent's files of settings that are not first boot's: the main one, and
// then those of the folder.
func others(root string) (files []string, err error) {
	main := filepath.Join(root, config.File)
	if _, err := os.Stat(main); err == nil {
		files = append(files, main)
	}
	entries, err := os.ReadDir(filepath.Join(root, config.Folder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		path := filepath.Join(config.Folder, e.Name())
		if filepath.Ext(path) == ".yaml" && !slices.Contains(owned, strings.TrimPrefix(path, "/")) {
			files = append(files, filepath.Join(root, path))
		}
	}
	return files, nil
}

// shortened is what is wrong without the folders of files that nobody knows.
func shortened(wrong error, folders ...string) error {
	if wrong == nil {
		return nil
	}
	text := strings.Join(strings.Split(wrong.Error(), "\n"), "; ")
	for _, f := range folders {
		text = strings.ReplaceAll(text, f, "")
	}
	return errors.New(strings.TrimPrefix(text, config.ErrSettings.Error()+": "))
}
