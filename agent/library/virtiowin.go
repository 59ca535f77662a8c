package library

import (
	"errors"
	"io"
	"os"
	"regexp"
	"slices"
)

// windows are the systems that virtio-win has drivers for, as its folders name them, the
// oldest first.
//
// Source: the layout of virtio-win.iso; libosinfo's names as virt-v2v maps them,
// convert/windows_virtio.ml.
var windows = []struct{ folder, name string }{
	{"xp", "Windows XP"}, {"2k3", "Windows Server 2003"}, {"2k8", "Windows Server 2008"}, {"w7", "Windows 7"}, {"2k8r2", "Windows Server 2008 R2"},
	{"w8", "Windows 8"}, {"2k12", "Windows Server 2012"}, {"w8.1", "Windows 8.1"}, {"2k12r2", "Windows Server 2012 R2"}, {"w10", "Windows 10"},
	{"2k16", "Windows Server 2016"}, {"2k19", "Windows Server 2019"}, {"w11", "Windows 11"}, {"2k22", "Windows Server 2022"}, {"2k25", "Windows Server 2025"},
}

// machines are the kinds of machines, as the folders name them.
var machines = []struct{ folder, name string }{{"x86", "32 bits"}, {"amd64", "64 bits"}}

// labelled matches the volume's name.
var labelled = regexp.MustCompile(`^(?i:virtio-win)[-_ ]([0-9]{1,4}(?:\.[0-9]{1,4}){1,3})`)

// putVirtioWin keeps an image of virtio-win as it is, if it holds a disk's and a network
// card's driver for at least one Windows.
func putVirtioWin(from *os.File, into *os.Root) (version string, holds []string, err error) {
	info, err := from.Stat()
	if err != nil {
		return "", nil, err
	}
	v, err := openImage(from, info.Size())
	if err != nil {
		return "", nil, err
	}
	label := labelled.FindStringSubmatch(v.id)
	if label == nil {
		return "", nil, refused("the image is called %.32q, and virtio-win's virtio-win-VERSION", v.id)
	}
	if holds, err = v.drivers(); err != nil {
		return "", nil, err
	}
	if len(holds) == 0 {
		return "", nil, refused("it holds viostor and NetKVM for no Windows that is known")
	}
	return label[1], holds, kept(from, into)
}

func kept(from *os.File, into *os.Root) error {
	if _, err := from.Seek(0, io.SeekStart); err != nil {
		return err
	}
	f, err := into.OpenFile("virtio-win.iso", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	return errors.Join(err, f.Sync(), f.Close())
}

// drivers are the systems that the image has both drivers for.
func (v *image) drivers() (holds []string, err error) {
	for _, w := range windows {
		for _, m := range machines {
			both := true
			for _, stem := range []string{"viostor", "netkvm"} {
				there, err := v.driver(stem + "/" + w.folder + "/" + m.folder + "/" + stem)
				if err != nil {
					return nil, err
				}
				both = both && there
			}
			if both {
				holds = append(holds, w.name+", "+m.name)
			}
		}
	}
	return slices.Clip(holds), nil
}

// driver tells whether a driver is there: its program, which begins as all of Windows do,
// what installs it, and its signature.
func (v *image) driver(stem string) (bool, error) {
	for _, ext := range []string{".sys", ".inf", ".cat"} {
		e, ok := v.files[stem+ext]
		if !ok {
			return false, nil
		}
		if _, err := v.read(extent{e.at + max(e.size, 1) - 1, 1}); err != nil { // its last byte
			return false, err
		}
		if start, err := v.read(extent{e.at, min(e.size, 2)}); err != nil || ext == ".sys" && string(start) != "MZ" {
			return false, errors.Join(refused("%s%s is no driver", stem, ext), err)
		}
	}
	return true, nil
}
