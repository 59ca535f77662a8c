// Package guestfs is Debian's packaged Go binding of libguestfs
// (golang-guestfs-dev), which no module proxy serves: guestfs.go links to the
// packaged file, and go.mod's replace directive points here. Without the
// package the link dangles, which only the build tag appliance notices.
package guestfs
