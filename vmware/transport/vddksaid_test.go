package transport

import (
	"fmt"
	"strings"
	"testing"
)

// TestVDDKErrorsAreSentences is of what was seen: by nbdkit 1.32 with the plugin 1.42,
// in nbdkit-vddk-plugin(1), and in the reports that vddkErrors names.
func TestVDDKErrorsAreSentences(t *testing.T) {
	for said, want := range map[string]string{
		"nbdkit: error: cannot open plugin 'vddk': /usr/lib/x86_64-linux-gnu/nbdkit/plugins/nbdkit-vddk-plugin.so: cannot open shared object file: No such file or directory\nUse 'nbdkit --help' or read the nbdkit(1) manual page for documentation.": "nbdkit has no vddk plugin",
		"nbdkit: error: /x/lib64/libvixDiskLib.so.8: file too short\n\nIf 'lib64/libvixDiskLib.so.8' is located on a non-standard path you may need to":                                                                                                 "is damaged (file too short)",
		"nbdkit: error: libvixMntapi.so.8: cannot open shared object file: No such file or directory":                                                                                                                                                   "lacks libvixMntapi.so.8: upload",
		"nbdkit: error: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by /x/lib64/libvixDiskLib.so.8)":                                                                                                                      "this system, which lacks GLIBC_2.38",
		"nbdkit: error: required VDDK symbol \"VixDiskLib_Wait\" is missing. VDDK version must be >= 6.5.":                                                                                                                                              "older than 6.5",
		"nbdkit: debug: VixDiskLibVim: Failed to verify SSL certificate: actual thumbprint=B2:31:BD expected=12\nnbdkit: vddk[1]: error: VixDiskLib_ConnectEx: Cannot connect to the host":                                                              "has the thumbprint B2:31:BD and not",
		"nbdkit: vddk[1]: error: VixDiskLib_ConnectEx: Insufficient permissions in the host operating system":                                                                                                                                           "refuses the user or the password",
		"nbdkit: vddk[1]: error: [NFC ERROR]NfcNewAuthdConnectionEx: Failed to connect to peer. Error: Failed to connect to server esx1.example:902\nnbdkit: vddk[1]: error: Cannot connect to the host":                                                "port 902 of the ESXi host esx1.example cannot",
		"nbdkit: vddk[1]: error: [NFC ERROR]NfcNewAuthdConnectionEx: Failed to connect: Error reading from vmware-authd socket. Reason: Resource temporarily unavailable":                                                                               "does not answer on its port 902",
		"nbdkit: vddk[3]: error: [NFC ERROR] NfcFssrvrProcessErrorMsg: received NFC error 5 from server: Failed to allocate the requested 2097176 bytes":                                                                                                "copy fewer disks of this host",
		"GetFileName: Cannot create disk spec for disk [DS] a/a.vmdk. Error occurred when obtaining the file name for [DS] a/a.vmdk.\nnbdkit: vddk[1]: error: VixDiskLib_Open: [DS] a/a.vmdk: Unknown error":                                            "cannot open independent disks",
		"nbdkit: vddk[1]: error: VixDiskLib_Open: [DS] a/a.vmdk: Unknown error":                                                                                                                                                                         "most often it is the thumbprint",
		"nbdkit: vddk[1]: error: VixDiskLib_Open: [DS] a/a.vmdk: The server refused connection":                                                                                                                                                         "refused the connection on its port 902",
		"nbdkit: vddk[1]: error: VixDiskLib_Open: [DS] a/a.vmdk: The file was not found":                                                                                                                                                                "no such file",
		"nbdkit: vddk[1]: error: VixDiskLib_Open: [DS] a/a.vmdk: You do not have access rights to this file":                                                                                                                                            "DiskRandomRead",
		"nbdkit: vddk[1]: error: Something new": "",
	} {
		if got := vddkSentence(said); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("vddkSentence(%q) = %q, want %q", said, got, want)
		}
	}
}

func TestOfAnNbdkitsWordsErrorsAreKept(t *testing.T) {
	w := newVDDKWords()
	for i := range 10_000 {
		fmt.Fprintf(w, "nbdkit: debug: starting worker thread vddk.%d\n", i)
	}
	fmt.Fprint(w, "nbdkit: vddk[1]: error: ")
	fmt.Fprint(w, "first\nnbdkit: debug: actual thumbprint=AA expected=BB\nnbdkit: err")
	if got, want := w.String(), "nbdkit: vddk[1]: error: first\nnbdkit: debug: actual thumbprint=AA expected=BB\nnbdkit: err"; got != want {
		t.Errorf("String = %q, want %q", got, want)
	}
	for range 1000 {
		fmt.Fprint(w, "nbdkit: error: "+strings.Repeat("x", 5000)+"\n")
	}
	if got := len(w.String()); got > (wordLines+1)*(wordBytes+1) {
		t.Errorf("%d bytes were kept", got)
	}
}
