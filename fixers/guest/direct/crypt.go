package direct

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"hyper2kvm/fixers/guest"
)

// What is encrypted is a device of device-mapper's as soon as the guest is opened,
// and until it is closed: nothing else can read it.

// openedVolume is a volume with a device that many file systems may share.
type openedVolume struct {
	name string
	*mapped
}

// lent is a device that stays when one of its users lets go.
type lent struct{ *mapped }

func (l lent) Detach() error { return l.file.Sync() }

func (g *engine) openedVolume(name string) (*mapped, bool) {
	i := slices.IndexFunc(g.opened, func(o openedVolume) bool { return o.name == name })
	if i < 0 {
		return nil, false
	}
	return g.opened[i].mapped, true
}

// openCrypt makes the device of an encrypted volume, if this kernel can, and adds what
// it holds to the topology.
func (g *engine) openCrypt(ctx context.Context, v *guest.Volume) error {
	m, err := g.attachCrypt(*v)
	if errors.Is(err, ErrUnsupported) {
		v.Unsupported = err.Error()
		return nil
	}
	if err != nil {
		return err
	}
	g.opened = append(g.opened, openedVolume{v.Name, m})
	return g.identify(ctx, v.Name, m.file, 0, v.Size)
}

func (g *engine) attachCrypt(v guest.Volume) (_ *mapped, err error) {
	control, err := openMapper()
	if err != nil {
		return nil, fmt.Errorf("%w: it is encrypted, and device-mapper does not work here: %w", ErrUnsupported, err)
	}
	m := &mapped{control: control}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Detach())
		}
	}()
	under, s, err := g.attachSpan(v.On[0], span{start: v.Crypt.Start, end: v.Crypt.Start + v.Size})
	if err != nil {
		return nil, err
	}
	m.under = []device{under}
	table := cryptTable(v, under.Number(), (v.Crypt.Start-s.start)/sector)
	defer clear(table)
	if err := m.makeOf(1, table); err != nil {
		return nil, fmt.Errorf("%w: device-mapper refuses it: %w", ErrUnsupported, err)
	}
	return m, nil
}

// cryptTable says in device-mapper's words what is encrypted on a device, from a
// sector on. The key is in it, and in nothing else that is left behind.
//
// Source: Linux Documentation/admin-guide/device-mapper/dm-crypt.rst.
func cryptTable(v guest.Volume, on string, from int64) []byte {
	c := v.Crypt
	params := make([]byte, 0, len(c.Cipher)+hex.EncodedLen(len(c.Key))+128) // it does not grow, which would leave a copy
	defer func() { clear(params[:cap(params)]) }()
	params = append(append(params, c.Cipher...), ' ')
	params = hex.AppendEncode(params, c.Key)
	params = fmt.Appendf(params, " %d %s %d", c.IV, on, from)
	if c.Sector > sector {
		params = fmt.Appendf(params, " 1 sector_size:%d", c.Sector)
	}
	return encodeTarget(target{size: v.Size / sector, kind: "crypt"}, params)
}

// closeOpened ends the devices of volumes, those first that were made last.
func (g *engine) closeOpened() error {
	var errs []error
	for _, o := range slices.Backward(g.opened) {
		errs = append(errs, o.Detach())
	}
	g.opened = nil
	return errors.Join(errs...)
}
