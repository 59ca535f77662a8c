package guestfs

// #include <guestfs.h>
import "C"

// Quiet stops the library from printing errors of this thread's calls to
// standard error; they are still returned. The packaged binding lacks it.
func (g *Guestfs) Quiet() {
	if g.g != nil {
		C.guestfs_set_error_handler(g.g, nil, nil)
	}
}
