package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"strings"

	"hyper2kvm/pipeline/proc"
)

// What qemu-img check says of a qcow2's data behind the end of its file.
//
// Source: QEMU, block/qcow2-refcount.c, qcow2_inc_refcounts_imrt.
const afterEnd = "exceeding the end of the file"

// checkCorrupt is the exit status of qemu-img check that says nothing of the
// data themselves: a refcount that is wrong matters to those who write.
//
// Source: qemu-img(1), check.
const checkCorrupt = 2

// wholeQCOW2 refuses a qcow2 with ErrTruncated. It reads metadata alone.
func wholeQCOW2(ctx context.Context, path string) error {
	_, err := proc.Run(ctx, "qemu-img", "check", "-q", "-U", "-f", QCOW2, "--", path)
	failure, ok := errors.AsType[*proc.Error](err)
	switch {
	case ok && strings.Contains(failure.Stderr, afterEnd):
		return fmt.Errorf("%s: %w", path, ErrTruncated)
	case ok && (failure.Exit == checkCorrupt || failure.Exit == leaked):
	case err != nil:
		return err
	}
	return clustersWhole(ctx, path)
}

func clustersWhole(ctx context.Context, path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		err = lastCluster(ctx, f, size)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// lastCluster finds the cluster that lies last in the file of size bytes, which
// must not end before it does: qemu-img check asks only that it begins there.
func lastCluster(ctx context.Context, f io.ReaderAt, size int64) error {
	q, err := readQCOW2(f)
	if err != nil {
		return err
	}
	end, used := int64(0), int64(0)
	l1 := &table{f: f, size: size, at: q.l1, entries: q.l1Size, width: 8, order: binary.BigEndian}
	for i := range l1.entries {
		entry, err := l1.entry(i)
		if err != nil {
			return err
		}
		if entry&clusterOffset == 0 {
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if used += q.cluster; used > size {
			return fmt.Errorf("%w: its tables lie over one another", ErrNotADisk)
		}
		last, err := q.lastOf(f, size, entry, i)
		if err != nil {
			return err
		}
		end = max(end, last)
	}
	if end > size {
		return fmt.Errorf("%w: it has %d bytes of %d", ErrTruncated, size, end)
	}
	return nil
}

// clusterOffset masks the place of a cluster in an entry of a table.
const clusterOffset = 0x00fffffffffffe00

// qcow2 is what a qcow2's header says of its tables, in bytes.
//
// Source: QEMU, docs/interop/qcow2.txt.
type qcow2 struct {
	cluster, virtual int64
	l1, l1Size       int64
	width            int64 // bytes of an entry of the second table: 16 with subclusters
}

func readQCOW2(f io.ReaderAt) (q qcow2, err error) {
	head := make([]byte, 104)
	if _, err := f.ReadAt(head[:72], 0); err != nil {
		return q, err
	}
	clusterBits := binary.BigEndian.Uint32(head[20:])
	if clusterBits < 9 || clusterBits > 21 {
		return q, fmt.Errorf("%w: its header claims clusters of 2^%d bytes", ErrNotADisk, clusterBits)
	}
	q = qcow2{cluster: 1 << clusterBits, virtual: int64(binary.BigEndian.Uint64(head[24:])),
		l1: int64(binary.BigEndian.Uint64(head[40:]) & clusterOffset), l1Size: int64(binary.BigEndian.Uint32(head[36:])), width: 8}
	if binary.BigEndian.Uint32(head[4:]) < 3 {
		return q, nil
	}
	if _, err := f.ReadAt(head, 0); err != nil {
		return q, err
	}
	if binary.BigEndian.Uint64(head[72:])&(1<<4) != 0 {
		q.width = 16
	}
	return q, nil
}

// lastOf is where in the file the last data of one second table end.
func (q qcow2) lastOf(f io.ReaderAt, size int64, entry uint64, i int64) (end int64, err error) {
	perTable := q.cluster / q.width
	clusters := min(perTable, pieces(q.virtual, q.cluster)-i*perTable)
	t := &table{f: f, size: size, at: int64(entry & clusterOffset), entries: clusters * q.width / 8, width: 8, order: binary.BigEndian}
	for j := range clusters {
		entry, err := t.entry(j * q.width / 8)
		if err != nil {
			return 0, err
		}
		subclusters := uint64(1<<32 - 1)
		if q.width == 16 {
			if subclusters, err = t.entry(j*2 + 1); err != nil {
				return 0, err
			}
		}
		end = max(end, q.dataEnd(entry, uint32(subclusters), q.virtual-(i*perTable+j)*q.cluster))
	}
	return end, nil
}

// dataEnd is where the data of one cluster end, of which the guest has so many
// bytes left; zero for none.
func (q qcow2) dataEnd(entry uint64, subclusters uint32, left int64) int64 {
	const compressed, zero = 1 << 62, 1
	place := int64(entry & clusterOffset)
	switch {
	case entry&compressed != 0: // up to somewhere in its last sector
		x := 62 - (bits.TrailingZeros64(uint64(q.cluster)) - 8)
		at, more := int64(entry&(1<<x-1)), int64(entry>>x&(1<<(62-x)-1))
		return at&^(sectorSize-1) + more*sectorSize + 1
	case place == 0 || entry&zero != 0 && q.width == 8:
		return 0
	}
	return place + min(q.cluster/32*int64(bits.Len32(subclusters)), left)
}
