package evidence

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/lodgehq/lodge"
)

// files are the files of an archive by name.
type files map[string][]byte

// encode returns the archive. There is one for the same files: POSIX ustar, uncompressed, names
// in ascending order, mode 0644, owner 0, time 0, and two blocks of zeros at the end.
func (f files) encode() ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(f)) {
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(f[name])), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR})
		if err == nil {
			_, err = w.Write(f[name])
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", errUnfit, name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if b.Len() > MaxSize {
		return nil, fmt.Errorf("%w: %w: an archive of %d bytes (at most %d)", errUnfit, lodge.ErrLimit, b.Len(), MaxSize)
	}
	return b.Bytes(), nil
}

// decode reads an archive and refuses every encoding but the one that encode gives, so that
// there is no byte that could be changed unnoticed.
func decode(raw []byte) (files, error) {
	if len(raw) > MaxSize {
		return nil, fmt.Errorf("%w: an archive of %d bytes (at most %d)", lodge.ErrLimit, len(raw), MaxSize)
	}
	f := files{}
	for r := tar.NewReader(bytes.NewReader(raw)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%w archive: %w", lodge.ErrMalformed, err)
		}
		// Other formats have files that are larger than what there is of them.
		if h.Format != tar.FormatUSTAR || h.Typeflag != tar.TypeReg {
			return nil, fmt.Errorf("%w archive: %.100q is no plain file, and evidence has no other", lodge.ErrMalformed, h.Name)
		}
		if len(f) == maxFiles {
			return nil, fmt.Errorf("%w: more than %d files", lodge.ErrLimit, maxFiles)
		}
		if f[h.Name], err = io.ReadAll(r); err != nil {
			return nil, fmt.Errorf("%w archive: %s: %w", lodge.ErrMalformed, h.Name, err)
		}
	}
	again, err := f.encode()
	if err != nil || !bytes.Equal(again, raw) {
		return nil, fmt.Errorf("%w archive: it is not encoded as evidence is, so it is not as it was written", lodge.ErrMalformed)
	}
	return f, nil
}

// IsArchive tells whether raw begins as an archive does.
func IsArchive(raw []byte) bool {
	return len(raw) >= 512 && bytes.HasPrefix(raw[257:], []byte("ustar"))
}

// manifest lists the digests of all files but itself, as sha256sum does.
func manifest(f files) []byte {
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if name != manifestFile {
			fmt.Fprintf(&b, "%s  %s\n", lodge.DigestOf(f[name]).Hex(), name)
		}
	}
	return b.Bytes()
}
