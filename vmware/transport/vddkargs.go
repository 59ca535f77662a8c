package transport

import "path/filepath"

// vddkPlugin is how nbdkit calls its plugin.
const vddkPlugin = "vddk"

// Files of the private folder of one nbdkit.
func socketIn(dir string) string   { return filepath.Join(dir, "nbd.sock") }
func passwordIn(dir string) string { return filepath.Join(dir, "password") }

// plugin is how nbdkit is told which plugin to load.
func (a Access) plugin() string {
	if a.VDDKPlugin != "" {
		return a.VDDKPlugin
	}
	return vddkPlugin
}

// vddkArgs serves a disk on a socket of a private folder, where its password is too: the
// plugin starts nbdkit once more when it has found the library, and so reads it twice,
// which a descriptor would not do.
//
// Source: nbdkit(1); nbdkit-vddk-plugin(1), "PARAMETERS"; nbdkit, plugins/vddk/reexec.c.
func vddkArgs(a Access, d Disk, user, dir string) []string {
	args := []string{
		"--readonly",
		"--foreground",
		"--exit-with-parent",
		"--unix", socketIn(dir),
		// The library tells the reasons of its errors only to who asks for all that it
		// has to say. What nbdkit and the plugin say of each request is left out.
		"--verbose", "-D", "nbdkit.backend.datapath=0", "-D", "vddk.datapath=0",
		a.plugin(),
		"libdir=" + a.VDDK,
		"server=" + a.Server.Hostname(),
		"user=" + user,
		"password=+" + passwordIn(dir),
		"thumbprint=" + a.Thumbprint,
		"vm=moref=" + d.VM,
		"file=" + d.Files[0],
	}
	if port := a.Server.Port(); port != "" {
		args = append(args, "port="+port)
	}
	if d.Snapshot != "" {
		args = append(args, "snapshot="+d.Snapshot)
	}
	if a.VDDKModes != "" {
		args = append(args, "transports="+a.VDDKModes)
	}
	return args
}

// probeArgs tell of the plugin and of the library in a folder.
func probeArgs(a Access, folder string) []string {
	return []string{"--dump-plugin", a.plugin(), "libdir=" + folder}
}

// loadArgs load the library in a folder to serve nothing, so that what is wrong with it
// is said.
func loadArgs(a Access, folder, dir string) []string {
	return []string{"--readonly", "--unix", socketIn(dir), a.plugin(), "libdir=" + folder, "file=/dev/null", "--run", "true"}
}
