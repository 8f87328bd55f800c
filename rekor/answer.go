package rekor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/tlog"
)

// MaxAnswer bounds what ParseAnswer takes, in bytes.
const MaxAnswer = maxAnswer

// ParseAnswer reads the entries of a log's answer as it was received: v1's map of UUID to
// entry, or an array of such maps, as its search gives; v2's TransparencyLogEntry. Nothing is
// verified. Errors wrap lodge.ErrMalformed or lodge.ErrLimit.
func ParseAnswer(raw []byte) ([]lodge.Entry, error) {
	if len(raw) > MaxAnswer {
		return nil, fmt.Errorf("%w: an answer of %d bytes (at most %d)", lodge.ErrLimit, len(raw), MaxAnswer)
	}
	if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("[")) {
		var parts []json.RawMessage
		if err := json.Unmarshal(raw, &parts); err != nil {
			return nil, fmt.Errorf("%w: %w", lodge.ErrMalformed, err)
		}
		var all []lodge.Entry
		for _, part := range parts {
			entries, err := answerV1(part)
			if err != nil {
				return nil, err
			}
			all = append(all, entries...)
		}
		return few(all)
	}
	var top map[string]json.RawMessage
	if err := json.Unmarshal(raw, &top); err != nil {
		return nil, fmt.Errorf("%w: not a JSON object: %w", lodge.ErrMalformed, err)
	}
	if _, v2 := top["canonicalizedBody"]; v2 {
		e, err := bundle.ParseEntry(raw)
		return []lodge.Entry{e}, err
	}
	entries, err := answerV1(raw)
	if err != nil {
		return nil, err
	}
	return few(entries)
}

func few(entries []lodge.Entry) ([]lodge.Entry, error) {
	switch {
	case len(entries) == 0:
		return nil, fmt.Errorf("%w: an answer without entries", lodge.ErrMalformed)
	case len(entries) > bundle.MaxEntries:
		return nil, fmt.Errorf("%w: %d entries (at most %d)", lodge.ErrLimit, len(entries), bundle.MaxEntries)
	}
	return entries, nil
}

func answerV1(raw []byte) ([]lodge.Entry, error) {
	var said map[string]entryV1
	if err := json.Unmarshal(raw, &said); err != nil {
		return nil, fmt.Errorf("%w: not an answer of a Rekor log: %w", lodge.ErrMalformed, err)
	}
	var entries []lodge.Entry
	for _, uuid := range slices.Sorted(maps.Keys(said)) {
		if len(said[uuid].Body) == 0 {
			return nil, fmt.Errorf("%w: not an answer of a Rekor log: the entry %.100q has no body", lodge.ErrMalformed, uuid)
		}
		entries = append(entries, said[uuid].entry(uuid))
	}
	return entries, nil
}

// entry takes over what a log said, as it is.
func (s entryV1) entry(uuid string) lodge.Entry {
	e := lodge.Entry{Body: s.Body, SET: s.Verification.SET, Receipt: lodge.LogReceipt{
		LogID: s.LogID, LogIndex: s.LogIndex, EntryUUID: uuid, LeafHash: tlog.LeafHash(s.Body), IntegratedTime: s.IntegratedTime,
	}}
	if p := s.Verification.Proof; p != nil {
		proof := lodge.InclusionProof{LogIndex: p.LogIndex, TreeSize: p.TreeSize, RootHash: lodge.Digest(p.RootHash), Checkpoint: p.Checkpoint}
		for _, h := range p.Hashes {
			proof.Hashes = append(proof.Hashes, lodge.Digest(h))
		}
		e.Receipt.InclusionProof = &proof
		e.Receipt.Origin, _, _ = strings.Cut(p.Checkpoint, "\n")
	}
	return e
}

// BindEntry is Bind for a whole entry: its body is also of the kind that the entry claims.
func BindEntry(e lodge.Entry, att *bundle.Attestation) error {
	if err := checkKind(e); err != nil {
		return err
	}
	return Bind(e.Body, att)
}

func checkKind(e lodge.Entry) error {
	kind, version, err := kindOf(e.Body)
	if err != nil {
		return err
	}
	if e.Kind != "" && (e.Kind != kind || e.Version != version) {
		return fmt.Errorf("the entry claims to be %.40q version %.20q, and its body is %.40q version %.20q", e.Kind, e.Version, kind, version)
	}
	return nil
}

// Signed returns what an entry alone says was signed, by a signature that is in it: a bundle
// of its digest, and the bare key where no certificate is in it. The error wraps
// lodge.ErrNotFound where an entry of a kind that is read holds the digest of a payload only.
func Signed(e lodge.Entry) (*bundle.Bundle, *dsse.PublicKey, error) {
	if err := checkKind(e); err != nil {
		return nil, nil, err
	}
	c, err := parseBody(e.Body)
	if err != nil {
		return nil, nil, err
	}
	if !c.overPAE {
		return nil, nil, fmt.Errorf("what was signed: %w: the entry holds the digest of the envelope's payload alone", lodge.ErrNotFound)
	}
	if len(c.marks) != 1 {
		return nil, nil, errors.New("the entry has several signatures")
	}
	m := c.marks[0]
	b := &bundle.Bundle{Message: &bundle.Message{Hash: c.hash, Digest: c.digest, Signature: m.signature}, Entries: []lodge.Entry{e}}
	if m.certificate {
		b.Certificates = [][]byte{m.verifier}
		return b, nil, nil
	}
	key, err := dsse.ParsePublicKey(m.verifier)
	return b, key, err
}
