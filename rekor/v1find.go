package rekor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/tlog"
)

// maxCandidates bounds how many entries of the search index are looked at for one content.
// Anybody can log anything, so the index can hold any number of others' entries for it.
const maxCandidates = 64

// uuidForm is what Rekor v1 names entries by: leaf hash, tree id in front of it or not.
var uuidForm = regexp.MustCompile(`^(?:[0-9a-f]{16})?[0-9a-f]{64}$`)

// Find looks for the entry that intent would make (or, where it is zero, that Plan would): by its
// UUID, and then for entries of the same content and signer in the log's search index,
// which is a hint only: entries can be missing there.
//
// Errors are *lodge.Error: of class held where the log can't be believed, else of class retry.
func (c *V1) Find(ctx context.Context, att *bundle.Attestation, intent lodge.Intent) (Found, error) {
	if intent.LeafHash.IsZero() {
		var err error
		if intent, err = c.Plan(att); err != nil {
			return Found{}, err
		}
	}
	e, err := c.byLeaf(ctx, intent.LeafHash)
	if err == nil {
		return Found{Entry: e}, nil
	}
	if !errors.Is(err, lodge.ErrNotFound) {
		return Found{}, readFailure(err)
	}
	found, err := c.search(ctx, att)
	if err == nil && found.Entry == nil {
		err = c.meet(ctx)
	}
	if err != nil {
		return Found{}, readFailure(err)
	}
	return found, nil
}

// meet makes sure, once for a client, that the log signs with one of the keys given: what is
// absent from it is sent next, and only to the log that was meant.
func (c *V1) meet(ctx context.Context) error {
	if c.met.Load() {
		return nil
	}
	_, err := c.heads.join(ctx)
	return err
}

// head fetches the newest checkpoint of the shard that is written to.
func (c *V1) head(ctx context.Context) (tlog.Checkpoint, error) {
	a := c.conn.get(ctx, "/api/v1/log", maxAnswer)
	if a.Err != nil || a.Status != http.StatusOK {
		return tlog.Checkpoint{}, readError(a)
	}
	var said struct {
		Head string `json:"signedTreeHead"`
	}
	err := json.Unmarshal(a.Body, &said)
	if err == nil {
		var head tlog.Checkpoint
		if head, err = c.open(said.Head); err == nil {
			c.met.Store(true)
			return head, nil
		}
	}
	if errors.Is(err, lodge.ErrSignature) {
		return tlog.Checkpoint{}, distrust(err)
	}
	return tlog.Checkpoint{}, lodge.Errorf(lodge.ClassRetry, "checkpoint-malformed", "%s/api/v1/log: %w", c.o.URL, err)
}

// open returns a checkpoint that one of the keys has signed, else the error of the first key.
func (c *V1) open(signed string) (head tlog.Checkpoint, err error) {
	for i, key := range c.o.Keys {
		opened, refused := key.Open([]byte(signed))
		if refused == nil {
			return opened, nil
		}
		if i == 0 {
			err = refused
		}
	}
	return head, err
}

// byLeaf returns the entry with that leaf, verified, from whichever shard has it. The error
// wraps lodge.ErrNotFound where none has.
func (c *V1) byLeaf(ctx context.Context, leaf lodge.Digest) (*lodge.Entry, error) {
	uuid, said, err := c.entry(ctx, leaf.Hex())
	if err != nil {
		return nil, err
	}
	return c.verify(uuid, said, leaf)
}

// entry fetches the entry of that name, unverified.
func (c *V1) entry(ctx context.Context, name string) (string, entryV1, error) {
	a := c.conn.get(ctx, "/api/v1/log/entries/"+name, maxAnswer)
	switch {
	case a.Err != nil || a.Status != http.StatusOK && a.Status != http.StatusNotFound:
		return "", entryV1{}, readError(a)
	case a.Status == http.StatusNotFound:
		return "", entryV1{}, fmt.Errorf("entry %s: %w", name, lodge.ErrNotFound)
	}
	uuid, said, err := oneEntry(a.Body)
	if err != nil {
		return "", entryV1{}, lodge.Errorf(lodge.ClassRetry, "answer-unreadable", "entry %s: %w", name, err)
	}
	return uuid, said, nil
}

// search looks for entries of att's content by the same signer, and returns the oldest.
func (c *V1) search(ctx context.Context, att *bundle.Attestation) (Found, error) {
	var names []string
	// dsse and intoto entries are indexed by the payload's digest, hashedrekord by the PAE's.
	for _, content := range [][]byte{att.Payload, att.PAE()} {
		found, err := c.retrieve(ctx, lodge.DigestOf(content))
		if err != nil {
			return Found{}, readFailure(err)
		}
		names = append(names, found...)
	}
	var oldest Found
	for _, name := range names[:min(len(names), maxCandidates)] {
		found, err := c.candidate(ctx, name, att)
		if err != nil {
			return Found{}, readFailure(err)
		}
		if found.Entry != nil && (oldest.Entry == nil || found.Entry.Receipt.LogIndex < oldest.Entry.Receipt.LogIndex) {
			oldest = found
		}
	}
	return oldest, nil
}

// retrieve asks the search index for what it has under a digest. A log without an index has
// nothing there; one that does not let us look may have.
func (c *V1) retrieve(ctx context.Context, digest lodge.Digest) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	query, err := marshal(struct {
		Hash lodge.Digest `json:"hash"`
	}{digest})
	if err != nil {
		return nil, err
	}
	a := c.conn.post(ctx, "/api/v1/index/retrieve", query)
	if a.Err == nil {
		switch a.Status {
		case http.StatusNotImplemented, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusBadRequest:
			return nil, nil
		}
	}
	if a.Err != nil || a.Status != http.StatusOK {
		return nil, readError(a)
	}
	var names []string
	if err := json.Unmarshal(a.Body, &names); err != nil {
		return nil, lodge.Errorf(lodge.ClassRetry, "answer-unreadable", "search index: %w", err)
	}
	return slices.DeleteFunc(names, func(name string) bool { return !uuidForm.MatchString(name) }), nil
}

// candidate returns the entry of that name where it is proven and by att's signer over att's
// content; the zero Found where it is somebody else's.
func (c *V1) candidate(ctx context.Context, name string, att *bundle.Attestation) (Found, error) {
	uuid, said, err := c.entry(ctx, name)
	if errors.Is(err, lodge.ErrNotFound) {
		return Found{}, nil
	}
	if err != nil {
		return Found{}, err
	}
	as := c.o.same(said.Body, att, time.Unix(said.IntegratedTime, 0))
	if _, known := c.key(said.LogID); as == nil || !known {
		return Found{}, nil // another signer's, or in a shard whose key was not given
	}
	e, err := c.verify(uuid, said, tlog.LeafHash(said.Body))
	if err != nil {
		return Found{}, err
	}
	if e.Receipt.InclusionProof == nil || e.SET == nil {
		return Found{}, nil // not proven, or at a time that nobody vouches for
	}
	found := Found{Entry: e}
	if as != att {
		as.Entries = []lodge.Entry{*e}
		found.Attestation = as
	}
	return found, nil
}
