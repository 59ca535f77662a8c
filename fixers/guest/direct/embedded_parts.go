//go:build parts

package direct

import "embed"

// binaries are none in ./parts, which would be embedded into itself.
var binaries embed.FS
