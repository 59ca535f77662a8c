// Command parts is what the direct engine's processes run: nothing but what they need, so
// that they start at once, and have little that a guest could make use of.
package main

import (
	"fmt"
	"os"

	"hyper2kvm/fixers/guest/direct"
)

func main() {
	if err := direct.Serve(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
