package guest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"hyper2kvm/fixers/guest/luks"
)

// LUKSContainer is blkid's name of a device whose content LUKS has encrypted.
const LUKSContainer = "crypto_LUKS"

// Crypt is what a volume is that lies encrypted on another device.
type Crypt struct {
	Version int    `json:"version"`          // of LUKS
	Cipher  string `json:"cipher,omitempty"` // as dm-crypt has it
	Sector  int64  `json:"-"`                // bytes that are encrypted together
	Start   int64  `json:"-"`                // of the encrypted bytes on the device, in bytes
	IV      int64  `json:"-"`                // the number of the first sector, as the cipher counts
	Key     Secret `json:"-"`                // of the volume, once a passphrase has opened it
}

// readLUKS reads the header of an encrypted device, and opens it if there is a key.
func (r *volumeReader) readLUKS(ctx context.Context, f Filesystem) error {
	source := r.read(f.Device)
	h, err := luks.Read(source, f.Size)
	switch {
	case errors.Is(err, luks.ErrHeader):
		r.problem(f.Device, err)
		return nil
	case errors.Is(err, luks.ErrUnsupported):
		r.locked = append(r.locked, lockedVolume(f, cmp.Or(f.UUID, f.Device), &luks.Header{Size: f.Size}, err.Error()))
		return nil
	case err != nil:
		return err
	}
	key, err := r.keys.unlock(h, f, func(passphrase Secret) (Secret, error) { return h.Unlock(ctx, source, passphrase) })
	problem := ""
	switch {
	case errors.Is(err, ErrKey):
		problem, err = err.Error(), nil
	case errors.Is(err, ErrLocked):
		problem, err = fmt.Sprintf("%v: give --key %s:file:FILE", err, f.Device), nil
	}
	v := lockedVolume(f, h.UUID, h, problem)
	v.Crypt.Key = key
	r.locked = append(r.locked, v)
	return err
}

func lockedVolume(f Filesystem, uuid string, h *luks.Header, problem string) Volume {
	name := uuid
	if !usableUUID.MatchString(name) {
		name = strings.ReplaceAll(f.Device, "/", "-")
	}
	return Volume{Name: "luks/" + name, UUID: uuid, Size: h.Size, On: []string{f.Device}, Problem: problem,
		Crypt: &Crypt{Version: h.Version, Cipher: h.Cipher, Sector: h.Sector, Start: h.Start, IV: h.IV}}
}

var usableUUID = regexp.MustCompile(`^[0-9A-Za-z-]{1,40}$`)

// Key is what opens encrypted devices.
type Key struct {
	// For is a device of the topology, the UUID of what is encrypted on it, or AllDevices.
	For string
	// Secrets are the passphrases that may be meant, of which the first that opens
	// a device is taken: a file may end with a line that is not a part of it.
	Secrets []Secret
}

// AllDevices is what a key is for that is tried on every encrypted device.
const AllDevices = "all"

// Keyring is the keys that an operator gives, and those of volumes that were found
// with them: a device takes seconds to open, and is opened more than once in a run.
// One goroutine uses it at a time; nil has no keys.
type Keyring struct {
	Keys  []Key
	Found map[string]Secret // of volumes, by their headers
	Typed map[string]Secret // the passphrases that open devices, by these
	Fits  map[int][]string  // the encrypted devices that a key is for, by its place in Keys
	Opens map[int]bool      // whether it opens one
	Why   map[int]string    // it does not
}

var (
	// ErrKey is a key that does not open what it is given for.
	ErrKey = errors.New("the key does not open it")
	// ErrLocked is a volume that nobody sees into without a key.
	ErrLocked = errors.New("it is encrypted, and no key was given for it")
)

// NewKeyring is a ring with keys.
func NewKeyring(keys []Key) *Keyring {
	return &Keyring{Keys: keys, Found: map[string]Secret{}, Typed: map[string]Secret{}, Fits: map[int][]string{}, Opens: map[int]bool{}, Why: map[int]string{}}
}

// Wipe forgets all keys.
func (k *Keyring) Wipe() {
	if k == nil {
		return
	}
	for _, key := range k.Keys {
		for _, s := range key.Secrets {
			clear(s)
		}
	}
	for _, s := range k.Found {
		clear(s)
	}
	k.Keys, k.Found, k.Typed = nil, map[string]Secret{}, map[string]Secret{}
}

// Passphrase is what opened a device of the topology; nil if nothing has. It is the
// ring's own, and wiped with it.
func (k *Keyring) Passphrase(device string) Secret {
	if k == nil {
		return nil
	}
	return k.Typed[device]
}

// unlock finds the key of a volume. The error wraps ErrLocked if there is no key for
// it, and ErrKey if those that there are do not open it.
func (k *Keyring) unlock(h *luks.Header, f Filesystem, open func(Secret) (Secret, error)) (Secret, error) {
	if k == nil {
		return nil, ErrLocked
	}
	result := ErrLocked
	for i, key := range k.Keys {
		if key.For != AllDevices && key.For != f.Device && !strings.EqualFold(key.For, h.UUID) {
			continue
		}
		if !slices.Contains(k.Fits[i], f.Device) {
			k.Fits[i] = append(k.Fits[i], f.Device)
		}
		found, by, err := k.try(h, key, open)
		if errors.Is(err, luks.ErrPassphrase) {
			result, k.Why[i] = fmt.Errorf("%w: %w", ErrKey, err), err.Error()
			continue
		}
		if err == nil {
			k.Opens[i], k.Typed[f.Device] = true, by
		}
		return found, err
	}
	return nil, result
}

// try tries the passphrases of one key, and tells which it was.
func (k *Keyring) try(h *luks.Header, key Key, open func(Secret) (Secret, error)) (found, by Secret, err error) {
	err = luks.ErrPassphrase
	for _, s := range key.Secrets {
		name := h.Fingerprint(s)
		if found, ok := k.Found[name]; ok {
			return found, s, nil
		}
		if found, err = open(s); err == nil {
			k.Found[name] = found
			return found, s, nil
		}
		if !errors.Is(err, luks.ErrPassphrase) {
			break
		}
	}
	return nil, nil, err
}

// Check tells of a key that has opened nothing, though all that the topology has was
// looked at: its error wraps ErrKey, and is for the one who gave it.
func (k *Keyring) Check(t Topology) error {
	if k == nil || slices.ContainsFunc(t.Volumes, func(v Volume) bool { return v.Unsupported != "" }) {
		return nil
	}
	for i, key := range k.Keys {
		switch {
		case k.Opens[i]:
		case len(k.Fits[i]) > 0:
			return fmt.Errorf("%w: the key for %s opens nothing on %s: %s", ErrKey, key.For, strings.Join(k.Fits[i], ", "), k.Why[i])
		default:
			return fmt.Errorf("%w: the key for %s is for nothing: %s", ErrKey, key.For, t.encrypted())
		}
	}
	return nil
}

// encrypted names for people what is encrypted.
func (t Topology) encrypted() string {
	var all []string
	for _, v := range t.Volumes {
		if v.Crypt != nil {
			all = append(all, fmt.Sprintf("%s (%s)", v.On[0], v.UUID))
		}
	}
	if len(all) == 0 {
		return "no device of this guest is encrypted"
	}
	return "encrypted are " + strings.Join(all, ", ")
}
