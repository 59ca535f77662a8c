package vhost

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// setUp agrees with the server on what is spoken, and gives it the memory and the ring.
func (d *Device) setUp() (err error) {
	if err := d.negotiate(); err != nil {
		return err
	}
	if d.ring, err = newRing(); err != nil {
		return err
	}
	kick, err := event(&d.kick)
	if err != nil {
		return err
	}
	call, err := event(&d.call)
	if err != nil {
		return err
	}
	table := append(append(pair(2, 0), region(ringBase, d.ring.memory)...), region(dataBase, d.memory)...)
	for _, step := range []func() error{
		func() error {
			return d.channel.tell(setMemTable, table, int(d.ring.memory.file.Fd()), int(d.memory.file.Fd()))
		},
		func() error { return d.channel.tell(setVringNum, pair(0, entries)) },
		func() error { return d.channel.tell(setVringBase, pair(0, 0)) },
		func() error { return d.channel.tell(setVringAddr, d.ring.addresses()) },
		func() error { return d.channel.tell(setVringCall, numbers(0), call) },
		func() error { return d.channel.tell(setVringKick, numbers(0), kick) },
		func() error { return d.channel.tell(setVringEnable, pair(0, 1)) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// event makes a file that wakes its reader. Its descriptor is not asked of the
// file, which would make its reader block a thread.
func event(f **os.File) (fd int, err error) {
	if fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err == nil {
		*f = os.NewFile(uintptr(fd), "eventfd")
	}
	return fd, err
}

// negotiate agrees on features and learns the disk's size.
func (d *Device) negotiate() error {
	features, err := d.channel.askNumber(getFeatures)
	if err != nil {
		return err
	}
	const wanted = featureProtocol | featureVersion1
	if features&wanted != wanted {
		return fmt.Errorf("it offers the features %#x, want %#x", features, uint64(wanted))
	}
	protocol, err := d.channel.askNumber(getProtocolFeatures)
	if err != nil {
		return err
	}
	const ways = protocolAck | protocolConfig
	if protocol&ways != ways {
		return fmt.Errorf("it offers the protocol's features %#x, want %#x", protocol, uint64(ways))
	}
	if err := errors.Join(d.channel.send(setProtocolFeatures, 0, numbers(ways)), d.channel.send(setFeatures, 0, numbers(wanted)), d.channel.send(setOwner, 0, nil)); err != nil {
		return err
	}
	return d.learnSize()
}

func (d *Device) learnSize() error {
	const head, capacity = 12, 8
	question := append(pair(0, capacity), make([]byte, 4+capacity)...)
	reply, err := d.channel.ask(getConfig, question)
	if err != nil {
		return err
	}
	if len(reply) < head+capacity {
		return fmt.Errorf("its configuration has %d bytes", len(reply))
	}
	sectors := binary.LittleEndian.Uint64(reply[head:])
	if sectors > 1<<54 {
		return fmt.Errorf("it has %d sectors", sectors)
	}
	d.size = int64(sectors) * sector
	return nil
}
