// Menu makes the boot entries that BIOS has, in a folder with what is on the partition that
// the appliance starts from:
//
//	go run ./build/menu FOLDER
//
// It is what an update does there, too.
package main

import (
	"fmt"
	"os"

	"hyper2kvm/agent/update"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: menu FOLDER")
		os.Exit(2)
	}
	if err := update.Menu(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "menu:", err)
		os.Exit(1)
	}
}
