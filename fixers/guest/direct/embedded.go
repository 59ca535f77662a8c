//go:build !parts

package direct

import "embed"

//go:embed bin
var binaries embed.FS
