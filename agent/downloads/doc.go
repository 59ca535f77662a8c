// Package downloads makes more appliances of one: images that start with settings of
// their own, for an admin to fetch.
//
// Words:
//
//   - Download: an image with settings in it, as a file that somebody fetches. Its bytes
//     are the same for as long as it is there, so that a part of it can be asked for.
//   - Form: what it is for. A raw image goes onto a stick or a disk, and has a seed volume
//     behind the appliance's partitions. An OVA is for vSphere, and has the settings as
//     values of its properties.
//   - Base: what it is made of besides the settings: the appliance's own disk, or an image
//     that lies in a storage. The base is not copied: it is read when the download is.
//   - Recipe: which bytes of what follow one another in the download.
//
// What is made for a download holds its secrets, and is kept sealed. A base in a storage
// is a stranger's: it is read within bounds, and no name in it is opened.
package downloads

import "errors"

// Errors that callers decide on.
var (
	ErrInput   = errors.New("cannot make this download")
	ErrBase    = errors.New("cannot make a download of this")
	ErrUnknown = errors.New("there is no such download")
	ErrGone    = errors.New("the download is over")
	ErrNotYet  = errors.New("the download is not ready")
	ErrMany    = errors.New("there are too many downloads")
)
