package disks

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/pipeline/durable"
)

// choice is what a disk is for.
type choice struct {
	ID    string        `json:"id"`
	Asked model.DiskUse `json:"asked"` // without the confirmation
	Use   model.DiskUse `json:"use"`   // as it was understood
	// Boot and Seq tell the disk from all others for as long as it is attached.
	Boot string `json:"boot"`
	Seq  uint64 `json:"seq"`
	// Protected is a disk that was read-only before.
	Protected bool `json:"protected,omitempty"`
	// Taken is the migration that writes or has written to a target.
	Taken string `json:"taken,omitempty"`

	Size   int64  `json:"size"` // for people, while it is not there
	Model  string `json:"model,omitempty"`
	Serial string `json:"serial,omitempty"`
}

// choicesFile is where the choices are kept, in the appliance's state.
const choicesFile = "disks.json"

func (k *Keeper) load() error {
	text, err := os.ReadFile(filepath.Join(k.State, choicesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &k.choices); err != nil {
		return fmt.Errorf("%s cannot be read: %w; remove it, and choose the disks again", filepath.Join(k.State, choicesFile), err)
	}
	return nil
}

func (k *Keeper) save() error {
	text, err := json.MarshalIndent(k.choices, "", "  ")
	if err != nil {
		return err
	}
	return durable.Write(filepath.Join(k.State, choicesFile), append(text, '\n'))
}

// choice is that of an ID; nil if there is none.
func (k *Keeper) choice(id string) *choice {
	i := slices.IndexFunc(k.choices, func(c choice) bool { return c.ID == id })
	if i < 0 {
		return nil
	}
	return &k.choices[i]
}

// attached is the choice of a disk that has not been unplugged since; nil if there is none.
func (k *Keeper) attached(b block) *choice {
	i := slices.IndexFunc(k.choices, func(c choice) bool { return c.Boot == k.boot && c.Seq == b.seq })
	if i < 0 {
		return nil
	}
	return &k.choices[i]
}

// chosen tells of a disk that was chosen, as far as that can be told before it is read.
func (k *Keeper) chosen(b block) bool {
	return k.attached(b) != nil || len(b.ids) > 0 && k.choice(b.ids[0]) != nil
}

// keep notes a choice, in place of the one before.
func (k *Keeper) keep(c choice) error {
	k.forget(c.ID)
	k.choices = append(k.choices, c)
	return k.save()
}

func (k *Keeper) forget(id string) {
	k.choices = slices.DeleteFunc(k.choices, func(c choice) bool { return c.ID == id })
}
