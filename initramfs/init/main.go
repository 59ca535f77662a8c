// Command init is the first program that the appliance's kernel runs.
package main

import (
	"fmt"
	"os"

	"hyper2kvm/initramfs/boot"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "init is what the appliance's kernel runs first: it is of no use elsewhere")
		os.Exit(2)
	}
	boot.Fail(boot.Run())
}
