package luks

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hyper2kvm/pipeline/proc"
)

const size = 32 << 20

// made is a device that cryptsetup made, without a device-mapper.
func made(t testing.TB, passphrase string, args ...string) string {
	t.Helper()
	if _, err := proc.Look("cryptsetup"); err != nil {
		if os.Getenv("NEED_TOOLS") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	name := filepath.Join(t.TempDir(), "luks.raw")
	if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, size)); err != nil {
		t.Fatal(err)
	}
	cryptsetup(t, passphrase, append([]string{"luksFormat", "--batch-mode", "--key-file=-"}, append(args, name)...)...)
	return name
}

func cryptsetup(t testing.TB, stdin string, args ...string) []byte {
	t.Helper()
	out, err := proc.Command{Name: "cryptsetup", Args: args, Stdin: strings.NewReader(stdin)}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// small keeps what slots cost low.
var small = []string{"--pbkdf-memory=1024", "--pbkdf-force-iterations=4", "--pbkdf-parallel=2"}

var fewIterations = []string{"--pbkdf-force-iterations=1000"}

func TestWhatCryptsetupLocksIsUnlocked(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want Header
	}{
		"version 1":           {slices.Concat([]string{"--type=luks1"}, fewIterations), Header{Version: 1, Cipher: "aes-xts-plain64", Start: 2 << 20, Sector: 512}},
		"version 1, sha512":   {slices.Concat([]string{"--type=luks1", "--hash=sha512"}, fewIterations), Header{Version: 1, Cipher: "aes-xts-plain64", Start: 2 << 20, Sector: 512}},
		"version 1 of 2010":   {slices.Concat([]string{"--type=luks1", "--hash=sha1", "--cipher=aes-cbc-essiv:sha256", "--key-size=256"}, fewIterations), Header{Version: 1, Cipher: "aes-cbc-essiv:sha256", Start: 2 << 20, Sector: 512}},
		"version 1 of 2008":   {slices.Concat([]string{"--type=luks1", "--hash=sha1", "--cipher=aes-cbc-plain", "--key-size=128"}, fewIterations), Header{Version: 1, Cipher: "aes-cbc-plain", Start: 1 << 20, Sector: 512}},
		"version 2":           {slices.Concat([]string{"--type=luks2", "--sector-size=512"}, small), Header{Version: 2, Cipher: "aes-xts-plain64", Start: 16 << 20, Sector: 512}},
		"version 2, argon2i":  {slices.Concat([]string{"--type=luks2", "--pbkdf=argon2i", "--sector-size=4096"}, small), Header{Version: 2, Cipher: "aes-xts-plain64", Start: 16 << 20, Sector: 4096}},
		"version 2, pbkdf2":   {slices.Concat([]string{"--type=luks2", "--pbkdf=pbkdf2", "--key-size=256"}, fewIterations), Header{Version: 2, Cipher: "aes-xts-plain64", Start: 16 << 20, Sector: 4096}},
		"version 2, aligned":  {slices.Concat([]string{"--type=luks2", "--offset=40960"}, small), Header{Version: 2, Cipher: "aes-xts-plain64", Start: 20 << 20, Sector: 4096}},
		"version 2, own size": {slices.Concat([]string{"--type=luks2", "--luks2-metadata-size=64k", "--luks2-keyslots-size=1M"}, small), Header{Version: 2, Cipher: "aes-xts-plain64", Sector: 4096}},
	} {
		t.Run(name, func(t *testing.T) {
			device := made(t, "open sesame", c.args...)
			f, err := os.Open(device)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			h, err := Read(f, size)
			if err != nil {
				t.Fatal(err)
			}
			uuid := strings.TrimSpace(string(cryptsetup(t, "", "luksUUID", device)))
			if h.UUID != uuid || h.Version != c.want.Version || h.Cipher != c.want.Cipher || h.Sector != c.want.Sector || c.want.Start > 0 && h.Start != c.want.Start || h.Start+h.Size != size {
				t.Errorf("Read = %+v, want %+v of UUID %s", h, c.want, uuid)
			}
			file := filepath.Join(t.TempDir(), "key")
			cryptsetup(t, "open sesame", "luksDump", "--batch-mode", "--dump-master-key", "--master-key-file="+file, "--key-file=-", device)
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if key, err := h.Unlock(t.Context(), f, []byte("open sesame")); err != nil || !bytes.Equal(key, want) {
				t.Errorf("Unlock = %x, %v, want %x", key, err, want)
			}
			if key, err := h.Unlock(t.Context(), f, []byte("open sesame\n")); !errors.Is(err, ErrPassphrase) || key != nil {
				t.Errorf("Unlock with a wrong passphrase = %x, %v", key, err)
			}
		})
	}
}

func TestEverySlotIsTried(t *testing.T) {
	device := made(t, "first", append([]string{"--type=luks2"}, small...)...)
	second := filepath.Join(t.TempDir(), "second")
	if err := os.WriteFile(second, []byte("second"), 0o600); err != nil {
		t.Fatal(err)
	}
	cryptsetup(t, "first", slices.Concat([]string{"luksAddKey", "--batch-mode", "--key-file=-"}, small, []string{device, second})...)
	data, err := os.ReadFile(device)
	if err != nil {
		t.Fatal(err)
	}
	h, err := Read(bytes.NewReader(data), size)
	if err != nil || len(h.slots) != 2 {
		t.Fatalf("Read = %+v, %v", h, err)
	}
	for _, passphrase := range []string{"first", "second"} {
		if _, err := h.Unlock(t.Context(), bytes.NewReader(data), []byte(passphrase)); err != nil {
			t.Errorf("Unlock with the %s = %v", passphrase, err)
		}
	}
	h.slots[1].kdf.memory = MaxMemory>>10 + 1
	_, err = h.Unlock(t.Context(), bytes.NewReader(data), []byte("second"))
	if !errors.Is(err, ErrPassphrase) || !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "slot 1") {
		t.Errorf("Unlock with too costly a slot = %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	cancel(stop)
	if _, err := h.Unlock(ctx, bytes.NewReader(data), []byte("first")); !errors.Is(err, stop) {
		t.Errorf("Unlock after the end = %v", err)
	}
}

func TestTheSecondHeaderStandsIn(t *testing.T) {
	data, err := os.ReadFile(made(t, "x", append([]string{"--type=luks2"}, small...)...))
	if err != nil {
		t.Fatal(err)
	}
	want, err := Read(bytes.NewReader(data), size)
	if err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]int{"magic": 0, "size": 14, "sum": 450, "text": 5000} {
		damaged := bytes.Clone(data)
		damaged[at] ^= 1
		if h, err := Read(bytes.NewReader(damaged), size); err != nil || h.UUID != want.UUID || h.Start != want.Start {
			t.Errorf("%s: Read = %+v, %v", name, h, err)
		}
		damaged[16<<10+at] ^= 1
		if h, err := Read(bytes.NewReader(damaged), size); !errors.Is(err, ErrHeader) {
			t.Errorf("%s of both: Read = %+v, %v", name, h, err)
		}
	}
}

// described is a header of version 2 with this JSON.
func described(text string) []byte {
	be, b := binary.BigEndian, make([]byte, 16<<10)
	copy(b, magic)
	be.PutUint16(b[6:], 2)
	be.PutUint64(b[8:], uint64(len(b)))
	copy(b[72:], "sha256")
	copy(b[168:], "u-u-i-d")
	copy(b[head2:], text)
	summed(b)
	return b
}

// padded reads as zeros behind its data.
type padded []byte

func (d padded) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(d)) {
		copy(p, d[off:])
	}
	return len(p), nil
}

// description is the JSON of a usual header.
func description() map[string]any {
	var m map[string]any
	err := json.Unmarshal([]byte(`{
"keyslots":{"0":{"type":"luks2","key_size":64,"af":{"type":"luks1","stripes":4000,"hash":"sha256"},
 "area":{"type":"raw","offset":"32768","size":"258048","encryption":"aes-xts-plain64","key_size":64},
 "kdf":{"type":"argon2id","time":4,"memory":64,"cpus":4,"salt":"z6vz4xK7cjan92rDA5JF8O6Jk2HouV0O8DMB6GlztVk="}}},
"tokens":{},
"segments":{"0":{"type":"crypt","offset":"16777216","size":"dynamic","iv_tweak":"0","encryption":"aes-xts-plain64","sector_size":512}},
"digests":{"0":{"type":"pbkdf2","keyslots":["0"],"segments":["0"],"hash":"sha256","iterations":1000,
 "salt":"G8gqtKhS96IbogHyJLO+t9kmjLkx+DM3HHJqQtgc2Dk=","digest":"C9JWko5m+oYmjg6R0t/0cGGzLr/4UaG3hImSJMivfGc="}},
"config":{"json_size":"12288","keyslots_size":"4161536"}}`), &m)
	if err != nil {
		panic(err)
	}
	return m
}

func TestHostileDescriptionsAreRefused(t *testing.T) {
	at := func(m map[string]any, path ...string) map[string]any {
		for _, p := range path {
			m = m[p].(map[string]any)
		}
		return m
	}
	slot := func(m map[string]any) map[string]any { return at(m, "keyslots", "0") }
	segment := func(m map[string]any) map[string]any { return at(m, "segments", "0") }
	for name, c := range map[string]struct {
		by   func(m map[string]any)
		want error
	}{
		"usual":                {func(map[string]any) {}, nil},
		"no segment":           {func(m map[string]any) { m["segments"] = nil }, ErrUnsupported},
		"being encrypted anew": {func(m map[string]any) { at(m, "segments")["1"] = segment(m) }, ErrUnsupported},
		"a requirement": {func(m map[string]any) {
			at(m, "config")["requirements"] = map[string]any{"mandatory": []string{"online-reencrypt-v2"}}
		}, ErrUnsupported},
		"not encrypted":            {func(m map[string]any) { segment(m)["type"] = "linear" }, ErrUnsupported},
		"with integrity":           {func(m map[string]any) { segment(m)["integrity"] = map[string]any{"type": "hmac(sha256)"} }, ErrUnsupported},
		"no digest":                {func(m map[string]any) { m["digests"] = nil }, ErrUnsupported},
		"behind the end":           {func(m map[string]any) { segment(m)["offset"] = "33554432" }, ErrHeader},
		"in front of the start":    {func(m map[string]any) { segment(m)["offset"] = "-512" }, ErrHeader},
		"an offset of no number":   {func(m map[string]any) { segment(m)["offset"] = "1e9" }, ErrHeader},
		"an offset beyond numbers": {func(m map[string]any) { segment(m)["offset"] = "99999999999999999999" }, ErrHeader},
		"larger than the device":   {func(m map[string]any) { segment(m)["size"] = "33554432" }, ErrHeader},
		"a size of no number":      {func(m map[string]any) { segment(m)["size"] = "all" }, ErrHeader},
		"a negative size":          {func(m map[string]any) { segment(m)["size"] = "-512" }, ErrHeader},
		"half a sector":            {func(m map[string]any) { segment(m)["size"] = "600" }, ErrHeader},
		"huge sectors":             {func(m map[string]any) { segment(m)["sector_size"] = 1 << 20 }, ErrHeader},
		"odd sectors":              {func(m map[string]any) { segment(m)["sector_size"] = 1536 }, ErrHeader},
		"negative sectors":         {func(m map[string]any) { segment(m)["sector_size"] = -512 }, ErrHeader},
		"a negative number":        {func(m map[string]any) { segment(m)["iv_tweak"] = "-1" }, ErrHeader},
		"a huge key":               {func(m map[string]any) { slot(m)["key_size"] = 1 << 40 }, ErrHeader},
		"a negative key":           {func(m map[string]any) { slot(m)["key_size"] = -64 }, ErrHeader},
		"a huge key of the area":   {func(m map[string]any) { at(slot(m), "area")["key_size"] = 1 << 40 }, ErrHeader},
		"split too often":          {func(m map[string]any) { at(slot(m), "af")["stripes"] = 1 << 40 }, ErrHeader},
		"a slot behind the end":    {func(m map[string]any) { at(slot(m), "area")["offset"] = fmt.Sprint(size - 4096) }, ErrHeader},
		"a slot in front":          {func(m map[string]any) { at(slot(m), "area")["offset"] = "-4096" }, ErrHeader},
		"a list of another type":   {func(m map[string]any) { m["keyslots"] = []int{1} }, ErrHeader},
	} {
		m := description()
		c.by(m)
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if h, err := Read(padded(described(string(text))), size); !errors.Is(err, c.want) {
			t.Errorf("%s: Read = %+v, %v, want %v", name, h, err, c.want)
		}
	}
	for name, text := range map[string]string{"nothing": "", "no JSON": "{", "deep": strings.Repeat("[", 11000)} {
		if h, err := Read(padded(described(text)), size); !errors.Is(err, ErrHeader) {
			t.Errorf("%s: Read = %+v, %v", name, h, err)
		}
	}
}

func TestHostileSlotsAreLeftOut(t *testing.T) {
	for name, by := range map[string]func(*kdf){
		"memory":     func(k *kdf) { k.memory = 1 << 40 },
		"no memory":  func(k *kdf) { k.memory = 0 },
		"time":       func(k *kdf) { k.time = 1 << 40 },
		"no time":    func(k *kdf) { k.time = -1 },
		"threads":    func(k *kdf) { k.cpus = 255 },
		"no threads": func(k *kdf) { k.cpus = 0 },
		"iterations": func(k *kdf) { k.kind, k.hash, k.iterations = pbkdf, "sha256", 1<<40 },
		"none":       func(k *kdf) { k.kind, k.hash, k.iterations = pbkdf, "sha256", 0 },
		"a hash":     func(k *kdf) { k.kind, k.hash, k.iterations = pbkdf, "whirlpool", 1000 },
		"a kind":     func(k *kdf) { k.kind = "scrypt" },
	} {
		text, err := json.Marshal(description())
		if err != nil {
			t.Fatal(err)
		}
		h, err := Read(padded(described(string(text))), size)
		if err != nil {
			t.Fatal(err)
		}
		by(&h.slots[0].kdf)
		if _, err := h.Unlock(t.Context(), padded(nil), []byte("x")); !errors.Is(err, ErrUnsupported) || !errors.Is(err, ErrPassphrase) {
			t.Errorf("%s: Unlock = %v", name, err)
		}
	}
}

func TestASlotThatNeedsMoreMemoryThanThereIsIsLeftOut(t *testing.T) {
	if got := available(); got < 64<<20 || got > 1<<50 {
		t.Errorf("available = %d", got)
	}
	before := available
	t.Cleanup(func() { available = before })
	available = func() int64 { return 1 << 20 }
	k := kdf{kind: argon2id, time: 4, memory: 2 << 10, cpus: 1}
	if _, err := k.derive([]byte("x"), 32); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "it takes 2 MiB of memory, and this machine has 1 MiB") {
		t.Errorf("derive = %v", err)
	}
}

// failing is a device that cannot be read.
type failing struct{}

var errRead = errors.New("input/output error")

func (failing) ReadAt([]byte, int64) (int, error) { return 0, errRead }

func TestADeviceThatCannotBeReadIsAnotherError(t *testing.T) {
	if _, err := Read(failing{}, size); !errors.Is(err, errRead) || errors.Is(err, ErrHeader) {
		t.Errorf("Read = %v", err)
	}
	if _, err := Read(padded(nil), 8192); !errors.Is(err, ErrHeader) {
		t.Errorf("Read of a small device = %v", err)
	}
}
