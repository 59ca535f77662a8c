module hyper2kvm

go 1.26

require (
	github.com/anchore/go-lzo v0.1.0
	github.com/elastic/go-seccomp-bpf v1.6.0
	github.com/google/go-cmp v0.7.0
	github.com/gopacket/gopacket v1.5.0
	github.com/klauspost/compress v1.19.1
	github.com/pierrec/lz4/v4 v4.1.26
	github.com/rogpeppe/go-internal v1.16.0
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3
	github.com/spf13/cobra v1.10.2
	github.com/u-root/u-root v0.16.0
	github.com/ulikunitz/xz v0.5.15
	github.com/zeebo/blake3 v0.2.4
	go.yaml.in/yaml/v4 v4.0.0
	golang.org/x/crypto v0.45.0
	golang.org/x/sync v0.19.0
	golang.org/x/sys v0.45.0
	golang.org/x/term v0.41.0
	golang.org/x/text v0.31.0
	golang.org/x/time v0.14.0
	golang.org/x/tools v0.38.0
	libguestfs.org/guestfs v0.0.0
	libvirt.org/go/libvirt v1.12005.0
	libvirt.org/go/libvirtxml v1.12005.0
)

require (
	github.com/dustin/go-humanize v1.0.1 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/klauspost/cpuid/v2 v2.0.12 // indirect
	github.com/spf13/pflag v1.0.9 // indirect
	github.com/u-root/uio v0.0.0-20240224005618-d2acac8f3701 // indirect
	golang.org/x/net v0.47.0 // indirect
)

replace libguestfs.org/guestfs => ./third_party/guestfs
