package initrd

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
)

// compressors write a member that the kernel's decompressor of that name takes.
// bzip2, lzma and lzo are missing: the kernel detects each member by itself, so
// a supplement to one of those is not compressed, which every kernel reads.
var compressors = map[string]func([]byte) ([]byte, error){
	"gzip": packGzip,
	"xz":   packXZ,
	"lz4":  packLZ4,
	"zstd": packZstd,
}

// pack compresses a supplement that is to stand at byte offset at, behind a
// member of the given compression, and returns it with the zeros that it needs
// in front. A raw archive starts at a multiple of four; lz4 gets no zeros,
// because kernels before 5.8 take them for a block.
func pack(archive []byte, like string, at int64) (data []byte, compression string, err error) {
	compress, ok := compressors[like]
	if !ok {
		return append(make([]byte, align4(at)-at), archive...), "none", nil
	}
	data, err = compress(archive)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", like, err)
	}
	return data, like, nil
}

func packGzip(archive []byte) ([]byte, error) {
	var out bytes.Buffer
	return closed(&out, gzip.NewWriter(&out), archive)
}

// packXZ sums with CRC32, the only check besides none that the kernel verifies,
// and keeps the dictionary at the 1 MiB of kernel.org's own recipes: it is
// allocated at boot.
func packXZ(archive []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := xz.WriterConfig{CheckSum: xz.CRC32, DictCap: 1 << 20}.NewWriter(&out)
	if err != nil {
		return nil, err
	}
	return closed(&out, w, archive)
}

// packZstd keeps the window at 1 MiB; the kernel's limit is 8 MiB.
func packZstd(archive []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20),
		zstd.WithEncoderLevel(zstd.SpeedBetterCompression))
	if err != nil {
		return nil, err
	}
	return closed(&out, w, archive)
}

func closed(out *bytes.Buffer, w io.WriteCloser, archive []byte) ([]byte, error) {
	if _, err := w.Write(archive); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func packLZ4(archive []byte) ([]byte, error) {
	out := []byte(lz4Magic)
	block := make([]byte, lz4.CompressBlockBound(lz4Block))
	for len(archive) > 0 {
		n := min(len(archive), lz4Block)
		size, err := lz4.CompressBlockHC(archive[:n], block, lz4.Level5, nil, nil)
		if err != nil {
			return nil, err
		}
		if size == 0 {
			return nil, fmt.Errorf("block of %d bytes did not fit", n)
		}
		out = binary.LittleEndian.AppendUint32(out, uint32(size))
		out, archive = append(out, block[:size]...), archive[n:]
	}
	return out, nil
}
