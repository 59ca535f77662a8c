// Package upload receives large files in parts, over connections that may break.
//
// Upload: a file that is not whole yet. Its bytes are in a file of its name with .part
// behind it, where the whole one is to be; how far it is stands in a record in a folder
// of this appliance's own. Part: what one request brings of it. Key: what the whole
// file is known by.
//
// The bytes that a record tells of are on stable storage, and its hash is of them: what
// is behind them, when the appliance was killed, is sent again.
package upload

import (
	"errors"
	"time"
)

// Upload is one that is not whole yet.
type Upload struct {
	Key     string    `json:"key"`
	Size    int64     `json:"size"`             // of the whole file, bytes
	Offset  int64     `json:"offset"`           // how much has come, bytes
	SHA256  []byte    `json:"sha256,omitempty"` // of the whole file; none if that was not told yet
	By      string    `json:"by"`
	Began   time.Time `json:"began"`
	Changed time.Time `json:"changed"`
}

// Part is what a request brings of a file: Length bytes that begin at First. One without
// bytes at the end of the file has a file put in place that came whole before.
type Part struct {
	First, Length int64
	Size          int64  // of the whole file
	SHA256        []byte // of the whole file; at the latest the last part tells it
	By            string
}

// Bounds.
const (
	// MaxSize is how large a file may be, bytes.
	MaxSize = 64 << 40
	// MaxPart is how much one request may bring, bytes.
	MaxPart = 1 << 40
	// Suffix is what the name of a file has that is not whole.
	Suffix = ".part"
	// Kept is how long an upload is kept that does not go on.
	Kept = 7 * 24 * time.Hour

	// atOnce is how many files are received at once.
	atOnce = 8
	// most is how many uploads are kept that were not finished.
	most = 1000
	// saved is after how many bytes it is kept how far an upload is.
	saved = 64 << 20
	// margin is how much room a storage keeps besides, bytes.
	margin = 64 << 20
)

// Errors that callers decide on.
var (
	// ErrInput is a part that cannot be.
	ErrInput = errors.New("this cannot be uploaded")
	// ErrOffset is a part that does not begin where the upload is.
	ErrOffset = errors.New("the upload does not go on there")
	// ErrOther is a part of another file than that of which parts have come.
	ErrOther = errors.New("another file is being uploaded to this name")
	// ErrForeign is a file with the name of one that is not whole, of nobody's upload here.
	ErrForeign = errors.New("there is a file of this name that ends in .part, and it is of no upload of this appliance's")
	// ErrNow is an upload that another request works on.
	ErrNow = errors.New("another request uploads to this name now")
	// ErrMany is more uploads than are taken.
	ErrMany = errors.New("too many files are being uploaded")
	// ErrUnfinished is one more upload than are kept that were not finished: waiting
	// does not help.
	ErrUnfinished = errors.New("too many uploads were not finished")
	// ErrRoom is a storage without enough room.
	ErrRoom = errors.New("there is not enough room")
	// ErrDigest is a file that did not come as it was sent.
	ErrDigest = errors.New("what came is not what was sent")
	// ErrExists is a file that is not to be replaced.
	ErrExists = errors.New("there is a file of this name")
	// ErrRefused is a file that is not what it is taken for. It is removed.
	ErrRefused = errors.New("this file cannot be used")
	// ErrShort is a part that ended too early. What came of it is kept.
	ErrShort = errors.New("the part ended before it was whole")
)
