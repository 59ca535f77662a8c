package nbd

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// handshake is a negotiation. Nothing is read ahead: what follows STARTTLS's
// answer is TLS, and may not come from what was sent in clear before it.
type handshake struct {
	conn   net.Conn
	o      Options
	flags  uint16 // the server's handshake flags
	export export
}

func (h *handshake) negotiate(ctx context.Context) error {
	if err := h.o.check(); err != nil {
		return err
	}
	h.export.minimum, h.export.preferred, h.export.maximum = 1, 4096, maxPayload
	if err := h.greet(); err != nil {
		return h.explain(err)
	}
	if err := h.haggle(ctx); err != nil {
		if errors.Is(err, ErrRefused) {
			_ = h.send(optAbort, nil) // a goodbye, which the connection's end says too
		}
		return h.explain(err)
	}
	return h.export.check()
}

// explain tells a connection's end from what the server said.
func (h *handshake) explain(err error) error {
	if errors.Is(err, ErrProtocol) || errors.Is(err, ErrRefused) || errors.Is(err, ErrDisconnected) {
		return err
	}
	return lost(fmt.Errorf("in the negotiation: %w", err))
}

// check finds names that no server may be sent.
func (o Options) check() error {
	for _, name := range append([]string{o.Export}, o.Contexts...) {
		if len(name) > maxString {
			return fmt.Errorf("a name of %d bytes is over the %d that the protocol has", len(name), maxString)
		}
	}
	if len(o.Contexts) > maxContexts {
		return fmt.Errorf("%d metadata contexts are over %d", len(o.Contexts), maxContexts)
	}
	return nil
}

// greet reads the server's greeting and answers with the flags of ours that it
// knows.
func (h *handshake) greet() error {
	var greeting [18]byte
	if _, err := io.ReadFull(h.conn, greeting[:16]); err != nil {
		return err
	}
	first, second := binary.BigEndian.Uint64(greeting[:]), binary.BigEndian.Uint64(greeting[8:])
	switch {
	case first != greetingMagic:
		return broken("the greeting %q is not of an NBD server", greeting[:8])
	case second == oldstyleMagic:
		return broken("the server speaks only the old style of NBD")
	case second != optionMagic:
		return broken("the greeting goes on with %#x", second)
	}
	if _, err := io.ReadFull(h.conn, greeting[16:]); err != nil {
		return err
	}
	h.flags = binary.BigEndian.Uint16(greeting[16:])
	_, err := h.conn.Write(binary.BigEndian.AppendUint32(nil, uint32(h.flags&(fixedNewstyle|noZeroes))))
	return err
}

// haggle asks for everything and enters the transmission.
func (h *handshake) haggle(ctx context.Context) error {
	if h.o.TLS != nil {
		if err := h.startTLS(ctx); err != nil {
			return err
		}
	}
	if h.flags&fixedNewstyle == 0 {
		return h.exportName()
	}
	if err := h.structuredReplies(); err != nil {
		return err
	}
	if h.export.structured {
		if err := h.metaContexts(); err != nil {
			return err
		}
	}
	return h.enter()
}

// startTLS goes over to TLS. It comes first, so that nobody between can alter
// what is negotiated, and whatever hinders it ends the connection.
func (h *handshake) startTLS(ctx context.Context) error {
	if h.flags&fixedNewstyle == 0 {
		return fmt.Errorf("%w: the server is too old for TLS", ErrRefused)
	}
	code, text, err := h.option(optStartTLS, nil, nil)
	switch {
	case err != nil:
		return err
	case code != repAck:
		return fmt.Errorf("TLS: %w", refusal(code, text))
	}
	config := h.o.TLS.Clone()
	if host, _, err := net.SplitHostPort(h.o.Address); err == nil {
		config.ServerName = cmp.Or(config.ServerName, host)
	}
	secure := tls.Client(h.conn, config)
	h.conn = secure // nothing is said in clear any more
	if err := secure.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS: %w: %w", ErrRefused, err)
	}
	return nil
}

// structuredReplies asks for structured replies; a server may lack them.
func (h *handshake) structuredReplies() error {
	code, text, err := h.option(optStructuredReply, nil, nil)
	switch {
	case err != nil:
		return err
	case code == repTLSRequired, code == repShutdown:
		return refusal(code, text)
	}
	h.export.structured = code == repAck
	return nil
}

// metaContexts asks for the metadata contexts; a server may lack them all. One
// that refuses for the export's sake says so again when it is entered.
func (h *handshake) metaContexts() error {
	names := h.o.Contexts
	if names == nil {
		names = []string{Allocation}
	}
	data := appendString(nil, h.o.Export)
	data = binary.BigEndian.AppendUint32(data, uint32(len(names)))
	for _, name := range names {
		data = appendString(data, name)
	}
	var given []meta
	code, _, err := h.option(optSetMetaContext, data, func(kind uint32, data []byte) error {
		if kind != repMetaContext {
			return broken("a reply of type %d to the metadata contexts", kind)
		}
		var err error
		given, err = appendContext(given, data)
		return err
	})
	if code == repAck {
		h.export.contexts = given
	}
	return err
}

func appendContext(given []meta, data []byte) ([]meta, error) {
	if len(data) <= 4 || len(data) > 4+maxString {
		return nil, broken("a metadata context in %d bytes", len(data))
	}
	m := meta{name: string(data[4:]), id: binary.BigEndian.Uint32(data)}
	for _, other := range given {
		if other.id == m.id || other.name == m.name {
			return nil, broken("the metadata context %q, number %d, beside %q, number %d", m.name, m.id, other.name, other.id)
		}
	}
	if len(given) == maxContexts {
		return nil, broken("more than %d metadata contexts", maxContexts)
	}
	return append(given, m), nil
}

// enter chooses the export by NBD_OPT_GO, or as before there was that.
func (h *handshake) enter() error {
	data := appendString(nil, h.o.Export)
	data = binary.BigEndian.AppendUint16(data, 1)
	data = binary.BigEndian.AppendUint16(data, infoBlockSize)
	described := false
	code, text, err := h.option(optGo, data, func(kind uint32, data []byte) error {
		if kind != repInfo || len(data) < 2 {
			return broken("a reply of type %d and %d bytes to the choice of an export", kind, len(data))
		}
		described = described || binary.BigEndian.Uint16(data) == infoExport
		return h.export.info(data)
	})
	switch {
	case err != nil:
		return err
	case code == repUnsupported:
		return h.exportName()
	case code != repAck:
		return refusal(code, text)
	case !described:
		return broken("an export without its size")
	}
	return nil
}

// exportName chooses the export as servers without NBD_OPT_GO know it: one that
// does not have it hangs up without a word.
func (h *handshake) exportName() error {
	if err := h.send(optExportName, []byte(h.o.Export)); err != nil {
		return err
	}
	var data [10 + reservedZeroes]byte
	answer := data[:]
	if h.flags&noZeroes != 0 {
		answer = data[:10]
	}
	if _, err := io.ReadFull(h.conn, answer); err != nil {
		return fmt.Errorf("%w: the server hung up when asked for the export", ErrRefused)
	}
	return h.export.describe(answer)
}
