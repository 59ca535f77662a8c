package transport

import (
	"bytes"
	"context"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// fileGone is said of a file that is not on the datastore.
var fileGone = regexp.MustCompile(`(?i)VixDiskLib_Open: [^\n]*: (?:The )?(?:specified )?file was not found`)

// vddkErrors are what VMware's library and nbdkit's plugin say, and what it means to an
// operator. $1 is what was found in it. The first in this order holds: later ones are what
// earlier ones lead to.
//
// Source: nbdkit-vddk-plugin(1), "Error 1 (Unknown error) when opening a disk", "Out of
// memory errors", "NOTES"; nbdkit, plugins/vddk/vddk.c; VMware, Virtual Disk API
// Programming Guide, "Virtual Disk API Errors" and "NBD transport"; migratekit issue 14;
// velero-plugin-for-vsphere issues 118 and 145.
var vddkErrors = []struct {
	said    *regexp.Regexp
	meaning string
}{
	// Loading.
	{regexp.MustCompile(`cannot open plugin '`), "nbdkit has no vddk plugin: install the package nbdkit-plugin-vddk of Debian's contrib, or name the plugin's file in the settings"},
	{regexp.MustCompile(`required VDDK symbol "`), "VMware's library is older than 6.5: upload a newer one"},
	{regexp.MustCompile("version `(\\w+_[0-9.]+)' not found"), "VMware's library is too new for this system, which lacks $1: upload an older one"},
	{regexp.MustCompile(`error: .*?(?:: )?(lib[^:/\s]+): cannot open shared object file`), "VMware's library is not whole, it lacks $1: upload it once more"},
	{regexp.MustCompile(`error: \S*/libvixDiskLib\S*: ([^\n]+)`), "VMware's library is damaged ($1): upload it once more"},
	// Who the server is, and who we are.
	{regexp.MustCompile(`actual thumbprint=([0-9A-Fa-f:]+)`), "the server's certificate has the thumbprint $1 and not the one that is pinned: if the certificate was renewed, pin the new one"},
	{regexp.MustCompile(`(?i)Insufficient permissions in the host operating system|Cannot complete login|incorrect user ?name or password|InvalidLogin`), "the server refuses the user or the password to VMware's library"},
	{regexp.MustCompile(`(?i)not licensed for this feature|license .*prohibit`), "the ESXi host's license does not allow VMware's library: the free edition lacks it"},
	// The host's port for disks.
	{regexp.MustCompile(`(?i)Failed to allocate the\s+requested|received NFC error 5|INSUFFICIENT_RESOURCES|(?:too many|maximum (?:number of )?)\s?(?:NFC )?connections`), "the ESXi host has no memory or connection left for another disk (NFC): copy fewer disks of this host at a time"},
	{regexp.MustCompile(`(?i)Failed to connect to (?:server|host)\s*(\S+):902|connecting to server (\S+):902`), "port 902 of the ESXi host $1 cannot be reached: open it to here in the firewalls"},
	{regexp.MustCompile(`(?i)vmware-authd socket|NfcNewAuthdConnection|NBD_ERR_NETWORK_CONNECT|NfcEstablishAuthCnx`), "the ESXi host does not answer on its port 902, or its name does not resolve here: check the firewalls and the host's name"},
	{regexp.MustCompile(`(?i)Host address lookup for server (\S+) failed|Resolve host.*fail`), "the name of the ESXi host $1 does not resolve here: add it to the settings or to DNS"},
	// The disk.
	{regexp.MustCompile(`Error occurred when obtaining the file name for|Cannot create disk spec`), "VMware's library from version 7 on cannot open independent disks: use another transport"},
	{fileGone, "the server has no such file of a disk, or none in this snapshot"},
	{regexp.MustCompile(`You do not have access rights to this file`), "the server does not let VMware's library read the disk: the user needs VirtualMachine.Provisioning.DiskRandomRead, and a VM that runs needs a snapshot"},
	{regexp.MustCompile(`(?i)(?:no|none of the) .*transport modes? .*(?:available|supported)|Failed to find a usable transport`), "none of the chosen transport modes of VMware's library works here: choose others, or none"},
	{regexp.MustCompile(`(?i)Cannot connect to the host`), "VMware's library cannot connect to the server: check that it is reached from here on ports 443 and 902"},
	{regexp.MustCompile(`(?i)The server refused connection`), "the ESXi host refused the connection on its port 902: it may have too many, be busy, or not be reached"},
	{regexp.MustCompile(`(?i)Unknown error`), "VMware's library does not say what is wrong: most often it is the thumbprint, an independent disk, or port 902 of the ESXi host"},
}

// vddkSentence is what an nbdkit's words mean, or nothing.
func vddkSentence(said string) string {
	for _, e := range vddkErrors {
		at := e.said.FindStringSubmatchIndex(said)
		if at == nil {
			continue
		}
		return string(e.said.ExpandString(nil, e.meaning, said, at))
	}
	return ""
}

// Bounds of what is kept of an nbdkit's words.
const (
	wordLines = 32
	wordBytes = 1 << 10
)

// vddkWords keeps of what an nbdkit says the lines that tell of errors: there are few
// among much else.
type vddkWords struct {
	heard chan struct{} // that there is more
	mu    sync.Mutex
	line  []byte // without an end yet
	kept  []string
}

func newVDDKWords() *vddkWords { return &vddkWords{heard: make(chan struct{}, 1)} }

func (w *vddkWords) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for rest := p; len(rest) > 0; {
		line, more, whole := bytes.Cut(rest, []byte("\n"))
		w.line = append(w.line, line[:min(len(line), wordBytes-len(w.line))]...)
		if rest = more; whole {
			w.keep(string(w.line))
			w.line = w.line[:0]
		}
	}
	return len(p), nil
}

func (w *vddkWords) keep(line string) {
	if !strings.Contains(line, ": error: ") && vddkSentence(line) == "" {
		return
	}
	if w.kept = append(w.kept, line); len(w.kept) > wordLines {
		w.kept = slices.Delete(w.kept, 0, 1)
	}
	select {
	case w.heard <- struct{}{}:
	default:
	}
}

// wordsWait is how long after its answer an nbdkit's words may come, by another way.
const wordsWait = time.Second

// meaning is what was said, in words for people, or nothing.
func (w *vddkWords) meaning(ctx context.Context) string {
	late := time.After(wordsWait)
	for {
		if sentence := vddkSentence(w.String()); sentence != "" {
			return sentence
		}
		select {
		case <-w.heard:
		case <-late:
			return ""
		case <-ctx.Done():
			return ""
		}
	}
}

// String is what was kept.
func (w *vddkWords) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(append(slices.Clone(w.kept), string(w.line)), "\n")
}
