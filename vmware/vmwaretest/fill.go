package vmwaretest

import (
	"os"
	"path/filepath"
)

// fill makes a base with a disk's bytes.
func (s *Server) fill(l *layer, d *Disk) error {
	if err := os.MkdirAll(filepath.Dir(l.file), 0o700); err != nil {
		return err
	}
	if d.Raw != "" {
		if err := takeBytes(l, d); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writeBase(l)
}

// takeBytes has the bytes of a disk's file under a layer's name.
func takeBytes(l *layer, d *Disk) error {
	info, err := os.Stat(d.Raw)
	if err != nil {
		return err
	}
	l.size = max(l.size, (info.Size()+sector-1)/sector*sector)
	if d.Link && info.Size() == l.size && os.Link(d.Raw, l.raw) == nil {
		l.shared = true
		return nil
	}
	return copySparse(l.raw, d.Raw)
}

// share gives a layer the bytes of another one, which are copied when either is written.
func (l *layer) share(from *layer) error {
	if os.Link(from.raw, l.raw) == nil {
		l.shared, from.shared = true, true
		return nil
	}
	return copySparse(l.raw, from.raw)
}

// unshare gives a layer a file of its own, before it is written.
func (l *layer) unshare() error {
	if !l.shared {
		return nil
	}
	if err := copySparse(l.raw+".own", l.raw); err != nil {
		return err
	}
	l.shared = false
	return os.Rename(l.raw+".own", l.raw)
}
