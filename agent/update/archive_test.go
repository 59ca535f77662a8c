package update

import (
	"archive/tar"
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hyper2kvm/pipeline/proc"
)

func sfdisk(t *testing.T, args ...string) ([]byte, error) {
	t.Helper()
	return proc.Run(t.Context(), "sfdisk", args...)
}

// piece is a member of a tar.
type piece struct {
	name    string
	content []byte
	kind    byte
}

func pieces(t *testing.T, archive []byte) (list []piece) {
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return list
		}
		must(t, err)
		content, err := io.ReadAll(r)
		must(t, err)
		list = append(list, piece{h.Name, content, tar.TypeReg})
	}
}

func joined(t *testing.T, list []piece) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, p := range list {
		h := &tar.Header{Name: p.name, Typeflag: p.kind, Size: int64(len(p.content))}
		if p.kind == tar.TypeSymlink {
			h.Linkname, h.Size, p.content = "/etc/passwd", 0, nil
		}
		must(t, w.WriteHeader(h))
		_, err := w.Write(p.content)
		must(t, err)
	}
	must(t, w.Close())
	return out.Bytes()
}

// resigned has the sums say something else, signed all the same.
func resigned(t *testing.T, k *rsa.PrivateKey, list []piece, change func(string) string) []piece {
	t.Helper()
	list[0].content = []byte(change(string(list[0].content)))
	digest := sha256.Sum256(list[0].content)
	signature, err := k.Sign(rand.Reader, digest[:], crypto.SHA256)
	must(t, err)
	list[1].content = signature
	return list
}

// resummed has the sums fit what the pieces are.
func resummed(t *testing.T, k *rsa.PrivateKey, list []piece) []piece {
	t.Helper()
	return resigned(t, k, list, func(string) (sums string) {
		for _, p := range list[2:] {
			sums += fmt.Sprintf("%x  %s\n", sha256.Sum256(p.content), p.name)
		}
		return sums
	})
}

func TestOnlyAWholeArchiveThatIsSignedIsTaken(t *testing.T) {
	ours, theirs := keys()
	good := packed(t, newVersion, ours)
	for why, change := range map[string]func([]piece) []piece{
		"not signed with a key that":             func(p []piece) []piece { p[0].content[0] ^= 1; return p },
		"not signed with a key that this":        func(p []piece) []piece { p[1].content = nil; return p },
		"not signed with a key that this applia": func(p []piece) []piece { return resummed(t, theirs, p) },
		"where SHA256SUMS.sig should be":         func(p []piece) []piece { return append(p[:1], p[2:]...) },
		"where SHA256SUMS should be":             func([]piece) []piece { return []piece{{"../SHA256SUMS", nil, tar.TypeReg}} },
		"\"SHA256SUMS\" is where SHA256SUMS":     func(p []piece) []piece { p[0].kind = tar.TypeSymlink; return p },
		"nothing else":                           func(p []piece) []piece { p[2].name = "hyper2kvm_../../evil.efi"; return resummed(t, ours, p) },
		"of several versions":                    func(p []piece) []piece { p[2].name = "hyper2kvm_9.efi"; return resummed(t, ours, p) },
		"is not what was signed":                 func(p []piece) []piece { p[2].content[700] ^= 1; return p },
		".root.":                                 func(p []piece) []piece { p[3].content[len(p[3].content)-3] ^= 1; return p },
		"is not that of its root":                func(p []piece) []piece { p[2].content = uki("0.0-9-gother00"); return resummed(t, ours, p) },
		"larger than the 4 MiB":                  func(p []piece) []piece { p[3].content = large(t); return resummed(t, ours, p) },
		"at most 4096 are taken":                 func(p []piece) []piece { p[0].content = make([]byte, 1<<20); return p },
		"ends before hyper2kvm_0.0-8":            func(p []piece) []piece { return p[:4] },
		"is more than it may hold":               func(p []piece) []piece { return append(p, piece{"more", nil, tar.TypeReg}) },
	} {
		b := newBench(t)
		err := b.install(joined(t, change(pieces(t, good))))
		if !errors.Is(err, ErrArchive) || !strings.Contains(err.Error(), why) {
			t.Errorf("%v; want %q", err, why)
		}
		b.start(oldVersion)
	}
	b := newBench(t)
	must(t, b.install(joined(t, pieces(t, good))))
}

// large is what becomes larger than a slot.
func large(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	must(t, compressed(bytes.NewReader(make([]byte, 5<<20)))(&out))
	return out.Bytes()
}

// TestAKeyCanBeChanged: an appliance may trust several.
func TestAKeyCanBeChanged(t *testing.T) {
	ours, theirs := keys()
	b := newBench(t)
	b.put("update.crt", append(certificate(t, ours), certificate(t, theirs)...))
	must(t, b.install(packed(t, newVersion, theirs)))
}

// TestOpenSSLSignsTheSame as Pack does.
func TestOpenSSLSignsTheSame(t *testing.T) {
	ours, _ := keys()
	list := pieces(t, packed(t, newVersion, ours))
	dir := t.TempDir()
	for name, content := range map[string][]byte{"sums": list[0].content, "sig": list[1].content, "crt": certificate(t, ours)} {
		must(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	public, err := proc.Run(t.Context(), "openssl", "x509", "-in", filepath.Join(dir, "crt"), "-pubkey", "-noout")
	if errors.Is(err, proc.ErrMissing) && os.Getenv("NEED_TOOLS") == "" {
		t.Skip(err)
	}
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "pub"), public, 0o600))
	_, err = proc.Run(t.Context(), "openssl", "dgst", "-sha256", "-verify", filepath.Join(dir, "pub"), "-signature", filepath.Join(dir, "sig"), filepath.Join(dir, "sums"))
	must(t, err)
}
