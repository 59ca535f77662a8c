package update

import (
	"cmp"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
)

// Where things are on the ESP.
const (
	images  = "EFI/Linux"
	kernels = "hyper2kvm" // for BIOS, a folder for each version
	menuAt  = "grub/grub.cfg"
	blockAt = "grub/grubenv"
)

// tries is how often a version is started that has not been healthy yet.
const tries = 3

// image is a kernel image on the ESP, by its name. What is counted is on trial: the number
// of tries that are left, and of those that were.
//
// Source: UAPI group, Boot Loader Specification, "Boot counting".
type image struct {
	version    string
	counted    bool
	left, done int
}

var imageName = regexp.MustCompile(`^hyper2kvm_([^+]+?)(\+(\d{1,3})(-(\d{1,3}))?)?\.efi$`)

// named is the image that a file's name tells of.
func named(file string) (i image, ok bool) {
	m := imageName.FindStringSubmatch(file)
	if m == nil || !aVersion.MatchString(m[1]) {
		return i, false
	}
	i = image{version: m[1], counted: m[2] != ""}
	i.left, _ = strconv.Atoi(m[3]) // digits, or nothing
	i.done, _ = strconv.Atoi(m[5])
	return i, true
}

func (i image) file() string {
	switch {
	case !i.counted:
		return fmt.Sprintf("hyper2kvm_%s.efi", i.version)
	case i.done == 0:
		return fmt.Sprintf("hyper2kvm_%s+%d.efi", i.version, i.left)
	}
	return fmt.Sprintf("hyper2kvm_%s+%d-%d.efi", i.version, i.left, i.done)
}

// name is where it is on the ESP.
func (i image) name() string { return images + "/" + i.file() }

// images are those of an ESP, the latest first.
func (e esp) images() (list []image, err error) {
	entries, err := os.ReadDir(e.path(images))
	if err != nil {
		return nil, err
	}
	for _, f := range entries {
		if i, ok := named(f.Name()); ok && f.Type().IsRegular() {
			list = append(list, i)
		}
	}
	slices.SortFunc(list, func(a, b image) int { return cmp.Or(Compare(b.version, a.version), cmp.Compare(a.file(), b.file())) })
	return list, nil
}

// find is the image of a version.
func find(list []image, version string) (image, bool) {
	for _, i := range list {
		if i.version == version {
			return i, true
		}
	}
	return image{}, false
}
