package rekor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/tlog"
)

const (
	leafBatch = 64 * 256 // leaves read and stored at once: 64 tiles, half a megabyte
	tileSpan  = 256      // leaves of a full tile

	recheckedLeaves = 32 // of those indexed by an earlier process
)

// Find looks for the entry that intent would make (or, where it is zero, that Plan would) in
// a tree whose checkpoint was fetched after the call. It is looked up in the local leaf index,
// brought up to that checkpoint, and in the leaves from intent.TreeSize on where the index
// begins later.
//
// Errors are *lodge.Error: of class held, code "diverged" (wrapping *tlog.ForkError) or
// "log-key", where the log can't be believed; of class retry otherwise.
func (c *V2) Find(ctx context.Context, att *bundle.Attestation, intent lodge.Intent) (Found, error) {
	intent, body, err := c.planned(att, intent)
	if err != nil {
		return Found{}, err
	}
	for {
		head, err := c.heads.join(ctx)
		if err != nil {
			return Found{}, readFailure(err)
		}
		index, err := c.lookup(ctx, head, intent)
		switch {
		case errors.Is(err, errAhead):
			continue
		case errors.Is(err, lodge.ErrNotFound):
			return c.absent(head), nil
		case err != nil:
			return Found{}, readFailure(err)
		}
		e, err := c.entryAt(ctx, head, index, body, intent.LeafHash)
		if err != nil {
			return Found{}, err
		}
		return Found{Entry: e}, nil
	}
}

func (c *V2) absent(head tlog.Checkpoint) Found {
	if head.Size == 0 {
		return Found{TreeSize: lodge.EmptyTree, LogID: c.LogID()}
	}
	return Found{TreeSize: head.Size, LogID: c.LogID()}
}

// errAhead says that another process has indexed the leaf from a newer checkpoint.
var errAhead = errors.New("the leaf index is ahead of this checkpoint")

// lookup returns the first index of the leaf in the tree of head. The error wraps
// lodge.ErrNotFound where it is absent.
func (c *V2) lookup(ctx context.Context, head tlog.Checkpoint, intent lodge.Intent) (int64, error) {
	from, size, err := c.o.Leaves.LeafRange(ctx, c.LogID())
	if err != nil {
		return 0, err
	}
	indexes, err := c.o.Leaves.FindLeaf(ctx, c.LogID(), intent.LeafHash)
	if err != nil {
		return 0, err
	}
	if len(indexes) > 0 {
		if first := slices.Min(indexes); first < head.Size {
			return first, nil
		}
		if size > head.Size {
			return 0, errAhead
		}
	}
	// Leaves between the intent and the beginning of an index that was begun anew since.
	if intent.TreeSize == 0 {
		return 0, lodge.ErrNotFound
	}
	for at := max(intent.TreeSize, 0); at < from; {
		to := min((at/leafBatch+1)*leafBatch, from)
		leaves, err := c.tiles.Leaves(ctx, head, at, to)
		if err != nil {
			return 0, err
		}
		if i := slices.Index(leaves, intent.LeafHash); i >= 0 {
			return at + int64(i), nil
		}
		at = to
	}
	return 0, lodge.ErrNotFound
}

// entryAt returns the entry at index, proven under head.
func (c *V2) entryAt(ctx context.Context, head tlog.Checkpoint, index int64, body []byte, leaf lodge.Digest) (*lodge.Entry, error) {
	proof, err := c.tiles.Inclusion(ctx, head, index)
	if err != nil {
		return nil, readFailure(err)
	}
	e := &lodge.Entry{Body: body}
	if err := c.prove(e, leaf, proof); err != nil {
		// The checkpoint and the tiles have proven true, so it is the index that differs: it
		// was made from another tree.
		return nil, diverged(fmt.Errorf("leaf %d is not what it was when it was indexed: %w", index, err))
	}
	return e, nil
}

// sync fetches the newest checkpoint, proves that it extends the one before, and brings the leaf
// index up to it. rounds calls it, one call at a time.
func (c *V2) sync(ctx context.Context) (tlog.Checkpoint, error) {
	// Before the fetch: what is indexed now was signed before, so the new checkpoint has it.
	_, size, err := c.o.Leaves.LeafRange(ctx, c.LogID())
	if err != nil {
		return tlog.Checkpoint{}, err
	}
	raw, err := c.read.Fetch(ctx, "checkpoint")
	if errors.Is(err, lodge.ErrNotFound) {
		return tlog.Checkpoint{}, c.read.elsewhere(http.StatusNotFound)
	}
	if err != nil {
		return tlog.Checkpoint{}, err
	}
	head, err := c.key.Open(raw)
	switch {
	case errors.Is(err, lodge.ErrSignature):
		return tlog.Checkpoint{}, distrust(err)
	case err != nil:
		return tlog.Checkpoint{}, lodge.Errorf(lodge.ClassRetry, "checkpoint-malformed", "%s/checkpoint: %w", c.o.ReadURL, err)
	}
	if known := max(size, c.head.Size); head.Size < known {
		return tlog.Checkpoint{}, lodge.Errorf(lodge.ClassRetry, "checkpoint-old",
			"the log serves the checkpoint of a tree of %d, but had %d entries before", head.Size, known)
	}
	if err := c.extends(ctx, head, size); err != nil {
		return tlog.Checkpoint{}, readFailure(err)
	}
	c.head = head
	if err := c.index(ctx, head); err != nil {
		return tlog.Checkpoint{}, readFailure(err)
	}
	return head, nil
}

// extends checks that head is of the tree that is known: by proof from the last checkpoint, or,
// in a new process, by the leaves that were indexed last.
func (c *V2) extends(ctx context.Context, head tlog.Checkpoint, size int64) error {
	if c.head.Size > 0 {
		return c.tiles.Consistency(ctx, c.head, head)
	}
	from, _, err := c.o.Leaves.LeafRange(ctx, c.LogID())
	if err != nil {
		return err
	}
	at := max(from, size-recheckedLeaves)
	leaves, err := c.tiles.Leaves(ctx, head, at, max(at, size))
	if err != nil {
		return err
	}
	for i, leaf := range leaves {
		indexes, err := c.o.Leaves.FindLeaf(ctx, c.LogID(), leaf)
		if err != nil {
			return err
		}
		if !slices.Contains(indexes, at+int64(i)) {
			return diverged(fmt.Errorf("leaf %d is not what it was when it was indexed", at+int64(i)))
		}
	}
	return nil
}

// index adds the new leaves to the leaf index. Another process may do the same.
func (c *V2) index(ctx context.Context, head tlog.Checkpoint) error {
	for {
		from, size, err := c.o.Leaves.LeafRange(ctx, c.LogID())
		if err != nil {
			return err
		}
		if size >= head.Size {
			return nil
		}
		if head.Size-size > c.o.MaxLeaves {
			to := (head.Size - 1) / tileSpan * tileSpan
			slog.Info("a log has too many new entries to index them all: those before are not looked for in the index", "log", c.LogID(), "from", to)
			if from > 0 || size > 0 {
				if err := c.o.Leaves.SkipLeaves(ctx, c.LogID(), size, to); err != nil && !errors.Is(err, lodge.ErrStale) {
					return err
				}
				continue
			}
			size = to
		}
		to := min((size/leafBatch+1)*leafBatch, head.Size)
		leaves, err := c.tiles.Leaves(ctx, head, size, to)
		if err != nil {
			return err
		}
		err = c.o.Leaves.AddLeaves(ctx, c.LogID(), size, leaves)
		if err != nil && !errors.Is(err, lodge.ErrStale) {
			return err
		}
	}
}

// diverged says that the log has signed two trees that cannot both be its own.
func diverged(err error) *lodge.Error {
	return lodge.Errorf(lodge.ClassHeld, "diverged", "the log has changed what it had: %w", err)
}

// readFailure classifies what went wrong while reading a log.
func readFailure(err error) error {
	var known *lodge.Error
	var fork *tlog.ForkError
	var tile *tlog.TileError
	switch {
	case errors.As(err, &known):
		return lodge.Classify(err)
	case errors.As(err, &fork):
		return diverged(err)
	case errors.As(err, &tile):
		return lodge.Errorf(lodge.ClassRetry, "bad-tile", "%w", err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return lodge.Errorf(lodge.ClassRetry, "no-answer", "reading the log: %w", err)
	}
	return lodge.Errorf(lodge.ClassRetry, "read-failed", "reading the log: %w", err)
}
