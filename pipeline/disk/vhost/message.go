package vhost

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// Requests. Source: QEMU, docs/interop/vhost-user.rst, "Front-end message types".
const (
	getFeatures         = 1
	setFeatures         = 2
	setOwner            = 3
	setMemTable         = 5
	setVringNum         = 8
	setVringAddr        = 9
	setVringBase        = 10
	setVringKick        = 12
	setVringCall        = 13
	getProtocolFeatures = 15
	setProtocolFeatures = 16
	setVringEnable      = 18
	getConfig           = 24
)

// Features that are asked for: of the device, and of the protocol.
const (
	featureProtocol = 1 << 30 // VHOST_USER_F_PROTOCOL_FEATURES
	featureVersion1 = 1 << 32 // VIRTIO_F_VERSION_1
	protocolAck     = 1 << 3  // VHOST_USER_PROTOCOL_F_REPLY_ACK
	protocolConfig  = 1 << 9  // VHOST_USER_PROTOCOL_F_CONFIG
)

// Flags of a message.
const (
	version   = 1
	isReply   = 1 << 2
	needReply = 1 << 3
)

const (
	headerSize = 12
	// maxPayload is the longest reply that is read: of getConfig.
	maxPayload = 512
)

// channel is the connection on which a device is set up.
type channel struct{ *net.UnixConn }

// send sends a request with file descriptors.
func (c channel) send(request, flags uint32, payload []byte, files ...int) error {
	message := binary.LittleEndian.AppendUint32(nil, request)
	message = binary.LittleEndian.AppendUint32(message, version|flags)
	message = binary.LittleEndian.AppendUint32(message, uint32(len(payload)))
	message = append(message, payload...)
	var rights []byte
	if len(files) > 0 {
		rights = unix.UnixRights(files...)
	}
	n, _, err := c.WriteMsgUnix(message, rights, nil)
	if err == nil && n < len(message) {
		err = io.ErrShortWrite
	}
	return err
}

// reply reads the reply to a request.
func (c channel) reply(request uint32) ([]byte, error) {
	head := make([]byte, headerSize)
	if _, err := io.ReadFull(c, head); err != nil {
		return nil, err
	}
	got, flags, size := binary.LittleEndian.Uint32(head), binary.LittleEndian.Uint32(head[4:]), binary.LittleEndian.Uint32(head[8:])
	if got != request || flags&isReply == 0 || size > maxPayload {
		return nil, fmt.Errorf("the reply to request %d is %d, flags %#x, %d bytes", request, got, flags, size)
	}
	payload := make([]byte, size)
	_, err := io.ReadFull(c, payload)
	return payload, err
}

// ask sends a request that is replied to.
func (c channel) ask(request uint32, payload []byte) ([]byte, error) {
	if err := c.send(request, 0, payload); err != nil {
		return nil, err
	}
	return c.reply(request)
}

// askNumber is ask for a reply of 64 bits.
func (c channel) askNumber(request uint32) (uint64, error) {
	reply, err := c.ask(request, nil)
	if err == nil && len(reply) != 8 {
		err = fmt.Errorf("the reply to request %d has %d bytes, want 8", request, len(reply))
	}
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(reply), nil
}

// tell sends a request and waits until it was done.
func (c channel) tell(request uint32, payload []byte, files ...int) error {
	if err := c.send(request, needReply, payload, files...); err != nil {
		return err
	}
	reply, err := c.reply(request)
	if err == nil && (len(reply) != 8 || binary.LittleEndian.Uint64(reply) != 0) {
		err = fmt.Errorf("request %d was refused: %x", request, reply)
	}
	return err
}

func numbers(list ...uint64) (b []byte) {
	for _, n := range list {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return b
}

func pair(a, b uint32) []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, a), b)
}
