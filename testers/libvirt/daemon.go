//go:build appliance

package libvirt

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"libvirt.org/go/libvirt"

	"hyper2kvm/pipeline/disk/qmp"
	"hyper2kvm/testers/watch"
)

// Available tells whether this program was built with libvirt.
const Available = true

// listen runs libvirt's one loop for the events of all connections, as long as
// the process lives. It must be there before the first of them.
var listen = sync.OnceValue(func() error {
	if err := libvirt.EventRegisterDefaultImpl(); err != nil {
		return err
	}
	go func() {
		for libvirt.EventRunDefaultImpl() == nil {
		}
	}()
	return nil
})

// said is libvirt's own sentence in an error of its binding.
func said(err error) string {
	if e, ok := errors.AsType[libvirt.Error](err); ok {
		return strings.TrimSpace(e.Message)
	}
	return err.Error()
}

// failed is an error of the binding after what was asked for; nil for none.
func failed(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("libvirt: %s: %s", what, said(err))
}

// is tells whether libvirt gave one of these reasons.
func is(err error, codes ...libvirt.ErrorNumber) bool {
	for _, code := range codes {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// connection is a daemon over libvirt's own client.
type connection struct{ c *libvirt.Connect }

func dial(uri string) (daemon, error) {
	if err := listen(); err != nil {
		return nil, unreachable(uri, said(err))
	}
	c, err := libvirt.NewConnect(uri)
	if err != nil {
		return nil, unreachable(uri, said(err))
	}
	return connection{c}, nil
}

// Version is the daemon's, which libvirt packs into one number.
func (c connection) Version() (string, error) {
	n, err := c.c.GetLibVersion()
	return fmt.Sprintf("%d.%d.%d", n/1_000_000, n/1000%1000, n%1000), failed("version", err)
}

func (c connection) Capabilities() (string, error) {
	xml, err := c.c.GetCapabilities()
	return xml, failed("capabilities", err)
}

func (c connection) Defines(uuid string) (bool, error) {
	d, err := c.c.LookupDomainByUUIDString(uuid)
	if is(err, libvirt.ERR_NO_DOMAIN) {
		return false, nil
	}
	if err != nil {
		return false, failed("look for a domain with the UUID "+uuid, err)
	}
	return true, failed("domain", d.Free())
}

// Create has the XML validated against libvirt's schema too.
func (c connection) Create(xml string) (handle, error) {
	d, err := c.c.DomainCreateXML(xml, libvirt.DOMAIN_START_PAUSED|libvirt.DOMAIN_START_AUTODESTROY|libvirt.DOMAIN_START_VALIDATE)
	if is(err, libvirt.ERR_XML_ERROR, libvirt.ERR_XML_DETAIL, libvirt.ERR_XML_INVALID_SCHEMA, libvirt.ERR_CONFIG_UNSUPPORTED) {
		return nil, fmt.Errorf("%w by libvirt: %s", watch.ErrRefused, said(err))
	}
	if err != nil {
		return nil, failed("start the domain", err)
	}
	return &running{c: c.c, d: d}, nil
}

func (c connection) Close() error {
	_, err := c.c.Close()
	return failed("close the connection", err)
}

// running is a domain. A call that nobody waits for any more may outlast
// Destroy: each holds a reference of its own.
type running struct {
	c *libvirt.Connect
	d *libvirt.Domain

	lifecycle, monitor int // callbacks, if following
	following          bool
}

// ask makes one call with a reference of its own.
func (r *running) ask(what string, call func() error) error {
	if err := r.d.Ref(); err != nil {
		return failed(what, err)
	}
	err := call()
	return errors.Join(failed(what, err), failed("domain", r.d.Free()))
}

// Follow asks for the events of libvirt's that end a domain, and for all of
// QEMU's: the empty expression matches every name.
func (r *running) Follow(event func(qmp.Event), end func(how string)) (err error) {
	r.lifecycle, err = r.c.DomainEventLifecycleRegister(r.d, func(_ *libvirt.Connect, _ *libvirt.Domain, e *libvirt.DomainEventLifecycle) {
		if e.Event == libvirt.DOMAIN_EVENT_STOPPED {
			end(e.String())
		}
	})
	if err != nil {
		return failed("follow the domain", err)
	}
	r.monitor, err = r.c.DomainQemuMonitorEventRegister(r.d, "", func(_ *libvirt.Connect, _ *libvirt.Domain, e *libvirt.DomainQemuMonitorEvent) {
		event(qmp.Event{Name: e.Event, Data: data(e.Details), At: time.Unix(e.Seconds, int64(e.Micros)*1000)})
	}, libvirt.CONNECT_DOMAIN_QEMU_MONITOR_EVENT_REGISTER_REGEX)
	if err != nil {
		return errors.Join(failed("follow QEMU", err), failed("leave the domain", r.c.DomainEventDeregister(r.lifecycle)))
	}
	r.following = true
	return failed("notice the daemon's end", r.c.RegisterCloseCallback(func(*libvirt.Connect, libvirt.ConnectCloseReason) {
		end("the connection to libvirt was lost")
	}))
}

// data is an event's own; many have none.
func data(details string) json.RawMessage {
	if !json.Valid([]byte(details)) {
		return nil
	}
	return json.RawMessage(details)
}

func (r *running) Resume() error { return r.ask("resume the domain", r.d.Resume) }

// maxScreen bounds a screenshot in bytes.
const maxScreen = 16 << 20

var errTooLarge = fmt.Errorf("more than %d bytes", maxScreen)

// Screenshot gives no picture where QEMU has none.
func (r *running) Screenshot() (picture []byte, kind string, err error) {
	err = r.ask("screenshot", func() error {
		stream, err := r.c.NewStream(0)
		if err != nil {
			return err
		}
		kind, err = r.d.Screenshot(stream, 0, 0)
		switch {
		case err == nil:
			picture, err = receive(stream)
		case is(err, libvirt.ERR_INTERNAL_ERROR) && strings.Contains(said(err), "screendump"): // QEMU's refusal
			err = nil
		}
		return errors.Join(err, stream.Free())
	})
	return picture, kind, err
}

func receive(s *libvirt.Stream) ([]byte, error) {
	var b []byte
	err := s.RecvAll(func(_ *libvirt.Stream, part []byte) (int, error) {
		if len(b)+len(part) > maxScreen {
			return -1, errTooLarge
		}
		b = append(b, part...)
		return len(part), nil
	})
	if err != nil {
		return nil, errors.Join(err, s.Abort())
	}
	return b, s.Finish()
}

func (r *running) Peek(address, size int64) (b []byte, err error) {
	err = r.ask("read the guest's memory", func() (err error) {
		b, err = r.d.MemoryPeek(uint64(address), uint64(size), libvirt.MEMORY_PHYSICAL)
		return err
	})
	return b, err
}

// Operations asks without a disk's name: libvirt then adds up all of them.
func (r *running) Operations() (n watch.Operations, err error) {
	err = r.ask("block statistics", func() error {
		s, err := r.d.BlockStats("")
		if err == nil {
			n = watch.Operations{Reads: s.RdReq, Writes: s.WrReq}
		}
		return err
	})
	return n, err
}

// keyHeld is how long keys are held, in milliseconds.
const keyHeld = 100

func (r *running) SendKeys(keys []int) error {
	var codes []uint
	for _, k := range keys {
		codes = append(codes, uint(k))
	}
	return r.ask("send keys", func() error { return r.d.SendKey(uint(libvirt.KEYCODE_SET_LINUX), keyHeld, codes, 0) })
}

func (r *running) Destroy() error {
	var left []error
	if r.following {
		left = append(left, failed("leave the daemon", r.c.UnregisterCloseCallback()),
			failed("leave the domain", r.c.DomainEventDeregister(r.lifecycle)), failed("leave QEMU", r.c.DomainQemuEventDeregister(r.monitor)))
	}
	if err := r.d.Destroy(); !is(err, libvirt.ERR_NO_DOMAIN, libvirt.ERR_OPERATION_INVALID) {
		left = append(left, failed("end the domain", err))
	}
	return errors.Join(append(left, failed("domain", r.d.Free()))...)
}
