package tlog

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/lodgehq/lodge"
)

// MaxCheckpoint bounds a signed checkpoint, witnesses' signatures included.
const MaxCheckpoint = 64 << 10

// Checkpoint is a log's signed tree head. One that came from [Key.Open] is verified.
type Checkpoint struct {
	Origin string
	Size   int64
	Root   lodge.Digest
	Note   string // the signed note as served
	LogID  string // of the key that verified it, hex
}

// emptyRoot is the root of a tree without leaves (RFC 6962 section 2.1).
var emptyRoot = lodge.DigestOf(nil)

// Open verifies that signed is a checkpoint (C2SP tlog-checkpoint) with this log's origin and
// signature, and returns it. Signatures by others are passed over. Errors wrap
// lodge.ErrMalformed, lodge.ErrLimit or lodge.ErrSignature.
func (k Key) Open(signed []byte) (Checkpoint, error) {
	if len(signed) > MaxCheckpoint {
		return Checkpoint{}, fmt.Errorf("checkpoint of %d bytes: %w", len(signed), lodge.ErrLimit)
	}
	n, err := note.Open(signed, k)
	if err != nil {
		var invalid *note.InvalidSignatureError
		var unverified *note.UnverifiedNoteError
		if errors.As(err, &invalid) || errors.As(err, &unverified) {
			if claimed, peekErr := Peek(signed); peekErr == nil && k.origin != "" && claimed.Origin != k.origin {
				err = k.checkOrigin(claimed.Origin, k.origin) // a key's id commits to the origin: it may well be the right one
			}
			return Checkpoint{}, fmt.Errorf("checkpoint: %w of the log %.16s…: %w", lodge.ErrSignature, k.LogID(), err)
		}
		return Checkpoint{}, fmt.Errorf("%w checkpoint: %w", lodge.ErrMalformed, err)
	}
	cp, err := parseText(n.Text)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w checkpoint: %w", lodge.ErrMalformed, err)
	}
	if err := k.checkOrigin(cp.Origin, n.Sigs[0].Name); err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint: %w: %w", lodge.ErrSignature, err)
	}
	cp.Note, cp.LogID = string(signed), k.LogID()
	return cp, nil
}

// Peek returns what signed claims to be, and verifies nothing: to say what was refused.
func Peek(signed []byte) (Checkpoint, error) {
	if len(signed) > MaxCheckpoint {
		return Checkpoint{}, fmt.Errorf("checkpoint of %d bytes: %w", len(signed), lodge.ErrLimit)
	}
	text, _, _ := strings.Cut(string(signed), "\n\n")
	cp, err := parseText(text + "\n")
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w checkpoint: %w", lodge.ErrMalformed, err)
	}
	cp.Note = string(signed)
	return cp, nil
}

// checkOrigin keeps a key that serves several logs (v1 shards, other applications of the
// note format) from vouching for one under the name of another.
func (k Key) checkOrigin(origin, signedAs string) error {
	if k.origin != "" && origin != k.origin {
		return fmt.Errorf("it is of the origin %.100q, not %q", origin, k.origin)
	}
	if !k.v1 {
		return nil
	}
	m := v1Origin.FindStringSubmatch(origin)
	if m == nil || m[1] != signedAs {
		return fmt.Errorf("its origin %.100q does not belong to its signer %.100q", origin, signedAs)
	}
	return nil
}

// TreeID returns the Trillian tree id that a v1 origin names.
func (c Checkpoint) TreeID() (int64, bool) {
	m := v1Origin.FindStringSubmatch(c.Origin)
	if m == nil {
		return 0, false
	}
	id, err := strconv.ParseInt(m[2], 10, 64)
	return id, err == nil
}

// maxTree bounds the size of a tree, in leaves. No log will reach it, and the arithmetic of
// tiles is far from its limits there.
const maxTree = 1 << 48

// parseText reads a checkpoint's text: origin, size, root and perhaps extension lines.
func parseText(text string) (Checkpoint, error) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) < 3 {
		return Checkpoint{}, fmt.Errorf("%d lines, want origin, size and root", len(lines))
	}
	for _, line := range lines {
		if line == "" {
			return Checkpoint{}, errors.New("an empty line")
		}
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	// "decimal … with no leading zeroes" (C2SP tlog-checkpoint); ParseInt takes "+1" too.
	if err != nil || size < 0 || size > maxTree || strconv.FormatInt(size, 10) != lines[1] {
		return Checkpoint{}, fmt.Errorf("tree size %.40q", lines[1])
	}
	var root lodge.Digest
	raw, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || copy(root[:], raw) != len(raw) || len(raw) != len(root) {
		return Checkpoint{}, fmt.Errorf("root hash %.80q", lines[2])
	}
	if size == 0 && root != emptyRoot {
		return Checkpoint{}, errors.New("a root hash that no empty tree has")
	}
	return Checkpoint{Origin: lines[0], Size: size, Root: root}, nil
}
