package guest

// Both engines show NTFS by one program and in one way: files have the modes that FAT's
// have. norecover: what Windows has not written yet, hibernated or not shut down, is
// not thrown away; such a file system is shown as it was, and cannot be written.
// streams_interface=none: other streams of a file are not taken for attributes; they
// stay where a file is written to. windows_names: nothing is made that Windows could
// not open.
//
// Source: ntfs-3g(8).
const (
	NTFSProgram = "ntfs-3g"
	NTFSOptions = "norecover,streams_interface=none,windows_names,uid=0,gid=0,fmask=0133,dmask=0022"
)
