package nbd

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The replies of a server that agrees to everything, to be spoilt one by one.
const agreed = fixedNewstyle | noZeroes

// spoilt negotiates as asked for until the option is there, which is answered by
// the test.
func spoilt(option uint32, answer func(p *peer)) func(p *peer) {
	return func(p *peer) {
		p.greet(agreed)
		for {
			got, _ := p.option()
			switch got {
			case 0:
				return
			case option:
				answer(p)
				p.drain()
				return
			default:
				p.reply(got, repAck)
			}
		}
	}
}

func TestANegotiationThatLiesIsBrokenOff(t *testing.T) {
	ack := func(p *peer) { p.reply(optGo, repAck) }
	export := func(p *peer) { p.reply(optGo, repInfo, uint16(infoExport), uint64(1<<20), uint16(hasFlags)) }
	blocks := func(sizes ...uint32) func(p *peer) {
		return func(p *peer) {
			export(p)
			p.reply(optGo, repInfo, uint16(infoBlockSize), sizes)
			ack(p)
		}
	}
	bytes := func(values ...any) func(p *peer) { return func(p *peer) { p.send(be(values...)); p.drain() } }
	tests := []struct {
		name, says string
		script     func(p *peer)
	}{
		{"another protocol", "not of an NBD server", bytes("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")},
		{"the old style", "old style", bytes(uint64(greetingMagic), uint64(oldstyleMagic), make([]byte, 200))},
		{"half a greeting", "goes on with", bytes(uint64(greetingMagic), uint64(1))},
		{"a reply without its magic", "begins with", spoilt(optGo, bytes(uint64(1), uint32(optGo), uint32(repAck), uint32(0)))},
		{"a reply to another option", "when 7 was asked", spoilt(optGo, func(p *peer) { p.reply(optStructuredReply, repAck) })},
		{"an error whose text takes 4 GiB", "of 4294967295 bytes", spoilt(optGo, bytes(uint64(optionReplyMagic), uint32(optGo), uint32(repUnknown), ^uint32(0)))},
		{"an acknowledgement with data", "with 4 bytes", spoilt(optStructuredReply, func(p *peer) { p.reply(optStructuredReply, repAck, uint32(1)) })},
		{"information to an option without", "type 3 to option 8", spoilt(optStructuredReply, func(p *peer) { p.reply(optStructuredReply, repInfo, uint16(1)) })},
		{"information without end", "more than 256 replies", spoilt(optGo, func(p *peer) {
			for p.reply(optGo, repInfo, uint16(99)) {
			}
		})},
		{"information without a type", "0 bytes", spoilt(optGo, func(p *peer) { p.reply(optGo, repInfo) })},
		{"a context as information", "type 4", spoilt(optGo, func(p *peer) { p.reply(optGo, repMetaContext, uint32(1), Allocation) })},
		{"no size", "without its size", spoilt(optGo, ack)},
		{"a size that is cut short", "information of type 0", spoilt(optGo, func(p *peer) { p.reply(optGo, repInfo, uint16(infoExport), uint32(1)) })},
		{"a size over 2^63", "9223372036854775808 bytes", spoilt(optGo, func(p *peer) { p.reply(optGo, repInfo, uint16(infoExport), uint64(1<<63), uint16(1)) })},
		{"block sizes that are cut short", "information of type 3", spoilt(optGo, blocks(512))},
		{"a block of 0 bytes", "block sizes", spoilt(optGo, blocks(0, 4096, 1<<20))},
		{"a block of 513 bytes", "block sizes", spoilt(optGo, blocks(513, 4096, 1<<20))},
		{"a block of 128 KiB", "block sizes", spoilt(optGo, blocks(128<<10, 128<<10, 1<<20))},
		{"a preferred block under the least", "block sizes", spoilt(optGo, blocks(4096, 512, 1<<20))},
		{"a largest payload under a block", "block sizes", spoilt(optGo, blocks(4096, 4096, 512))},
		{"an end out of reach", "cannot be reached", spoilt(optGo, func(p *peer) {
			p.reply(optGo, repInfo, uint16(infoExport), uint64(1000), uint16(hasFlags))
			p.reply(optGo, repInfo, uint16(infoBlockSize), []uint32{512, 4096, 1 << 20})
			ack(p)
		})},
		{"contexts without end", "more than 64", spoilt(optSetMetaContext, func(p *peer) {
			for i := range uint32(1000) {
				p.reply(optSetMetaContext, repMetaContext, i, be(i))
			}
		})},
		{"one number for two contexts", "beside", spoilt(optSetMetaContext, func(p *peer) {
			p.reply(optSetMetaContext, repMetaContext, uint32(1), "a:b")
			p.reply(optSetMetaContext, repMetaContext, uint32(1), "a:c")
		})},
		{"one context twice", "beside", spoilt(optSetMetaContext, func(p *peer) {
			p.reply(optSetMetaContext, repMetaContext, uint32(1), "a:b")
			p.reply(optSetMetaContext, repMetaContext, uint32(2), "a:b")
		})},
		{"a context without a name", "in 4 bytes", spoilt(optSetMetaContext, func(p *peer) { p.reply(optSetMetaContext, repMetaContext, uint32(1)) })},
		{"a context with an endless name", "in 5004 bytes", spoilt(optSetMetaContext, func(p *peer) { p.reply(optSetMetaContext, repMetaContext, uint32(1), make([]byte, 5000)) })},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // for a lie that is believed
			defer cancel()
			_, err := Dial(ctx, scripted(t, test.script))
			if !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("Dial = %v, want %v and %q", err, ErrProtocol, test.says)
			}
		})
	}
}

func TestARefusalSaysWhy(t *testing.T) {
	for code, says := range map[uint32]string{
		repPolicy: "policy", repInvalid: "invalid", repPlatform: "platform", repTLSRequired: "TLS", repUnknown: "no such export",
		repBlockSizeReq: "block sizes", repTooBig: "too big", repError + 77: "0x8000004d",
	} {
		o := scripted(t, spoilt(optGo, func(p *peer) { p.reply(optGo, code, "come\x1b[2J\nback") }))
		o.Export = "mine"
		_, err := Dial(t.Context(), o)
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), says) || !strings.HasSuffix(err.Error(), ": come [2J back") || !strings.Contains(err.Error(), `"mine"`) {
			t.Errorf("Dial = %v, want %v, %q and the server's own words", err, ErrRefused, says)
		}
	}
}

func TestAServerThatShutsDownMayBeTriedAgain(t *testing.T) {
	for _, option := range []uint32{optStructuredReply, optGo} {
		_, err := Dial(t.Context(), scripted(t, spoilt(option, func(p *peer) { p.reply(option, repShutdown) })))
		if !errors.Is(err, ErrDisconnected) {
			t.Errorf("Dial = %v, want %v", err, ErrDisconnected)
		}
	}
}

func TestAServerThatHangsUpInTheNegotiationMayBeTriedAgain(t *testing.T) {
	whole := be(uint64(greetingMagic), uint64(optionMagic), uint16(agreed),
		uint64(optionReplyMagic), uint32(optStructuredReply), uint32(repAck), uint32(0),
		uint64(optionReplyMagic), uint32(optSetMetaContext), uint32(repAck), uint32(0),
		uint64(optionReplyMagic), uint32(optGo), uint32(repInfo), uint32(12), uint16(infoExport), uint64(1<<20), uint16(hasFlags),
		uint64(optionReplyMagic), uint32(optGo), uint32(repAck), uint32(0))
	sent := -1
	o := scripted(t, func(p *peer) { sent++; p.send(whole[:sent]) })
	for sent := range whole {
		if _, err := Dial(t.Context(), o); !errors.Is(err, ErrDisconnected) {
			t.Errorf("Dial after %d bytes = %v, want %v", sent, err, ErrDisconnected)
		}
	}
}

func TestASilentServerIsGivenUp(t *testing.T) {
	impatient := errors.New("impatient")
	for name, script := range map[string]func(p *peer){
		"from the beginning": func(p *peer) { p.take(1) },
		"at an option":       spoilt(optGo, func(p *peer) { p.take(1) }),
	} {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, impatient)
		if _, err := Dial(ctx, scripted(t, script)); !errors.Is(err, impatient) {
			t.Errorf("Dial of a server silent %s = %v, want %v", name, err, impatient)
		}
		cancel()
	}
}

func TestNoServerIsAnErrorOfTheSystem(t *testing.T) {
	var op *net.OpError
	if _, err := Dial(t.Context(), Options{Socket: filepath.Join(t.TempDir(), "none")}); !errors.As(err, &op) {
		t.Errorf("Dial = %v, want %T", err, op)
	}
}

func TestAnOldServerIsUsedWithoutWhatItLacks(t *testing.T) {
	without := func(refuse func(option uint32) uint32) func(p *peer) {
		return func(p *peer) {
			p.greet(fixedNewstyle)
			for {
				option, _ := p.option()
				switch code := refuse(option); {
				case option == 0:
					return
				case option == optExportName:
					p.send(be(uint64(1<<20), uint16(hasFlags|sendTrim), make([]byte, reservedZeroes)))
				case code != 0:
					p.reply(option, code, "no")
				default:
					if option == optGo {
						p.reply(option, repInfo, uint16(infoExport), uint64(1<<20), uint16(hasFlags|sendTrim))
					}
					p.reply(option, repAck)
				}
				if option == optGo && refuse(option) == 0 || option == optExportName {
					for a, ok := p.request(); ok && a.command == cmdTrim; a, ok = p.request() {
						p.send(simple(a, 0))
					}
				}
			}
		}
	}
	for name, test := range map[string]struct {
		refuse     func(option uint32) uint32
		structured bool
	}{
		"no structured replies": {func(o uint32) uint32 { return map[uint32]uint32{optStructuredReply: repUnsupported}[o] }, false},
		"none by policy":        {func(o uint32) uint32 { return map[uint32]uint32{optStructuredReply: repPolicy}[o] }, false},
		"no contexts":           {func(o uint32) uint32 { return map[uint32]uint32{optSetMetaContext: repUnsupported}[o] }, true},
		"no choice with answer": {func(o uint32) uint32 { return map[uint32]uint32{optGo: repUnsupported}[o] }, true},
	} {
		c := dial(t, scripted(t, without(test.refuse)))
		if f := c.Features(); c.Size() != 1<<20 || !f.Trim || f.Structured != test.structured {
			t.Errorf("%s: Size, Features = %d, %+v, want 1 MiB, structured %v", name, c.Size(), f, test.structured)
		}
		if _, err := c.Extents(t.Context(), Allocation, 0, 1); !errors.Is(err, ErrNoContext) {
			t.Errorf("%s: Extents = %v, want %v", name, err, ErrNoContext)
		}
		if err := c.Trim(t.Context(), 0, 512); err != nil {
			t.Errorf("%s: Trim = %v", name, err)
		}
	}
}

func TestContextsBeforeARefusalAreNone(t *testing.T) {
	c := dial(t, scripted(t, func(p *peer) {
		p.greet(agreed)
		p.option()
		p.reply(optStructuredReply, repAck)
		p.option()
		p.reply(optSetMetaContext, repMetaContext, uint32(1), Allocation)
		p.reply(optSetMetaContext, repTooBig)
		p.option()
		p.reply(optGo, repInfo, uint16(infoExport), uint64(1<<20), uint16(hasFlags))
		p.reply(optGo, repAck)
		p.request()
	}))
	if _, err := c.Extents(t.Context(), Allocation, 0, 512); !errors.Is(err, ErrNoContext) {
		t.Errorf("Extents = %v, want %v", err, ErrNoContext)
	}
}

func TestAnOldServerWithoutTheExportRefuses(t *testing.T) {
	o := scripted(t, func(p *peer) { p.greet(0); p.option() })
	if _, err := Dial(t.Context(), o); !errors.Is(err, ErrRefused) {
		t.Errorf("Dial = %v, want %v", err, ErrRefused)
	}
}

func TestBlockSizesAreBroughtDownToWhatIsSent(t *testing.T) {
	for _, test := range []struct{ told, want [3]uint32 }{
		{[3]uint32{}, [3]uint32{1, 4096, maxPayload}},
		{[3]uint32{512, 4096, 1 << 20}, [3]uint32{512, 4096, 1 << 20}},
		{[3]uint32{1, 64 << 10, ^uint32(0)}, [3]uint32{1, 64 << 10, maxPayload}},
		{[3]uint32{512, 4096, 9999}, [3]uint32{512, 4096, 8192}},
		{[3]uint32{512, 4096, 4000}, [3]uint32{512, 4096, 3584}},
		{[3]uint32{64 << 10, 64 << 20, 64 << 20}, [3]uint32{64 << 10, 64 << 20, maxPayload}},
	} {
		c := dial(t, scripted(t, func(p *peer) { p.negotiate(terms{size: 1 << 20, flags: hasFlags, blocks: test.told}); p.request() }))
		a, b, m := c.BlockSize()
		if got := [3]uint32{uint32(a), uint32(b), uint32(m)}; got != test.want {
			t.Errorf("BlockSize of %v = %v, want %v", test.told, got, test.want)
		}
	}
}

func TestNamesThatNoServerMayBeSentAreRefused(t *testing.T) {
	long := strings.Repeat("x", maxString+1)
	for _, o := range []Options{{Export: long}, {Contexts: []string{long}}, {Contexts: slices.Repeat([]string{"a:b"}, maxContexts+1)}} {
		o.Socket = scripted(t, func(p *peer) { p.take(1) }).Socket
		if _, err := Dial(t.Context(), o); err == nil || errors.Is(err, ErrProtocol) || errors.Is(err, ErrDisconnected) {
			t.Errorf("Dial with names over the limit = %v", err)
		}
	}
}
