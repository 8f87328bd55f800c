package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"

	"golang.org/x/mod/sumdb/note"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/tlog"
)

// bind tells whether the body of a log entry is about an attestation. That is package
// rekor's to say, and it says so of entries that are proven to be in a log. Here the proof
// is judged by itself, so the body is shown to rekor as the one entry of a log that is made
// up for it.
func bind(body []byte, att *bundle.Attestation) error {
	const origin = "binding"
	private, public, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return err
	}
	signer, err := note.NewSigner(private)
	if err != nil {
		return err
	}
	root := tlog.LeafHash(body)
	text := fmt.Sprintf("%s\n1\n%s\n", origin, base64.StdEncoding.EncodeToString(root[:]))
	checkpoint, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil {
		return err
	}
	verifier, err := tlog.ParsePublicKey([]byte(public))
	if err != nil {
		return err
	}
	key, err := tlog.NewV2Key(origin, verifier)
	if err != nil {
		return err
	}
	log, err := rekor.NewV2(rekor.Options{URL: "http://offline.invalid", Keys: []tlog.Key{key}, Leaves: noLeaves{}})
	if err != nil {
		return err
	}
	one := *att
	one.Entries = []lodge.Entry{{Body: body, Receipt: lodge.LogReceipt{
		LogID:          key.LogID(),
		InclusionProof: &lodge.InclusionProof{TreeSize: 1, RootHash: root, Checkpoint: string(checkpoint)},
	}}}
	_, err = log.Adopt(context.Background(), &one)
	return err
}

// noLeaves is the leaf index of a client that never looks anything up.
type noLeaves struct{}

func (noLeaves) LeafRange(context.Context, string) (from, size int64, err error) { return 0, 0, nil }
func (noLeaves) FindLeaf(context.Context, string, lodge.Digest) ([]int64, error) { return nil, nil }
func (noLeaves) AddLeaves(context.Context, string, int64, []lodge.Digest) error {
	return lodge.ErrStale
}
