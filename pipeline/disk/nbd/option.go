package nbd

import (
	"encoding/binary"
	"io"
)

// option sends an option and reads its replies until the last one, which is an
// acknowledgement or an error with a text; each calls for the others.
func (h *handshake) option(option uint32, data []byte, each func(kind uint32, data []byte) error) (code uint32, text string, err error) {
	if err := h.send(option, data); err != nil {
		return 0, "", err
	}
	for range maxOptionReplies {
		kind, data, err := h.optionReply(option)
		switch {
		case err != nil:
			return 0, "", err
		case kind == repAck && len(data) > 0:
			return 0, "", broken("an acknowledgement with %d bytes", len(data))
		case kind == repAck:
			return kind, "", nil
		case kind&repError != 0:
			return kind, printable(data[:min(len(data), maxText)]), nil
		case each == nil:
			return 0, "", broken("a reply of type %d to option %d", kind, option)
		}
		if err := each(kind, data); err != nil {
			return 0, "", err
		}
	}
	return 0, "", broken("more than %d replies to option %d", maxOptionReplies, option)
}

func (h *handshake) send(option uint32, data []byte) error {
	message := binary.BigEndian.AppendUint64(nil, optionMagic)
	message = binary.BigEndian.AppendUint32(message, option)
	message = appendString(message, string(data))
	_, err := h.conn.Write(message)
	return err
}

func (h *handshake) optionReply(option uint32) (kind uint32, data []byte, err error) {
	var header [20]byte
	if _, err := io.ReadFull(h.conn, header[:]); err != nil {
		return 0, nil, err
	}
	magic, to := binary.BigEndian.Uint64(header[:]), binary.BigEndian.Uint32(header[8:])
	kind = binary.BigEndian.Uint32(header[12:])
	length := binary.BigEndian.Uint32(header[16:])
	switch {
	case magic != optionReplyMagic:
		return 0, nil, broken("a reply to option %d begins with %#x", option, magic)
	case to != option:
		return 0, nil, broken("a reply to option %d, when %d was asked", to, option)
	case length > maxOptionReply:
		return 0, nil, broken("a reply to option %d of %d bytes", option, length)
	}
	data = make([]byte, length)
	_, err = io.ReadFull(h.conn, data)
	return kind, data, err
}

// appendString appends a string after its length in 32 bits.
func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}
