package bundle

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/dsse"
)

// maxHashes is the length of the longest inclusion proof: a tree has at most 2^63 leaves
// (RFC 6962 section 2.1.1).
const maxHashes = 63

// entryFromProto takes an entry over as it is. The origin is what its checkpoint claims,
// and the leaf hash follows from the body; neither says that any log has it.
func entryFromProto(p *protorekor.TransparencyLogEntry) (lodge.Entry, error) {
	if p.GetLogIndex() < 0 || p.GetIntegratedTime() < 0 {
		return lodge.Entry{}, malformed("a negative index or time")
	}
	proof, err := proofFromProto(p.GetInclusionProof())
	if err != nil {
		return lodge.Entry{}, err
	}
	e := lodge.Entry{
		Kind:    p.GetKindVersion().GetKind(),
		Version: p.GetKindVersion().GetVersion(),
		Body:    p.GetCanonicalizedBody(),
		SET:     p.GetInclusionPromise().GetSignedEntryTimestamp(),
		Receipt: lodge.LogReceipt{
			LogID:          hex.EncodeToString(p.GetLogId().GetKeyId()),
			LogIndex:       p.GetLogIndex(),
			IntegratedTime: p.GetIntegratedTime(),
			InclusionProof: proof,
		},
	}
	if proof != nil {
		e.Receipt.Origin, _, _ = strings.Cut(proof.Checkpoint, "\n")
	}
	if len(e.Body) > 0 {
		e.Receipt.LeafHash = leafHash(e.Body)
	}
	return e, nil
}

func proofFromProto(p *protorekor.InclusionProof) (*lodge.InclusionProof, error) {
	if p == nil {
		return nil, nil
	}
	if p.GetLogIndex() < 0 || p.GetTreeSize() < 0 {
		return nil, malformed("a negative index or tree size in the inclusion proof")
	}
	if len(p.GetHashes()) > maxHashes {
		return nil, fmt.Errorf("%w: an inclusion proof of %d hashes (at most %d)", lodge.ErrLimit, len(p.GetHashes()), maxHashes)
	}
	proof := &lodge.InclusionProof{
		LogIndex:   p.GetLogIndex(),
		TreeSize:   p.GetTreeSize(),
		Hashes:     make([]lodge.Digest, len(p.GetHashes())),
		Checkpoint: p.GetCheckpoint().GetEnvelope(),
	}
	if err := setDigest(&proof.RootHash, p.GetRootHash()); err != nil {
		return nil, err
	}
	for i, h := range p.GetHashes() {
		if err := setDigest(&proof.Hashes[i], h); err != nil {
			return nil, err
		}
	}
	return proof, nil
}

func setDigest(d *lodge.Digest, b []byte) error {
	if len(b) != len(d) {
		return malformed("a hash of %d bytes in the inclusion proof (32 are due)", len(b))
	}
	copy(d[:], b)
	return nil
}

// leafHash is RFC 6962 section 2.1: SHA-256(0x00 || leaf).
func leafHash(body []byte) (d lodge.Digest) {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(body)
	h.Sum(d[:0])
	return d
}

// entryToProto is the way back. Bundles from v0.2 on must carry an inclusion proof with
// its checkpoint, so an entry without them is refused.
func entryToProto(e lodge.Entry) (*protorekor.TransparencyLogEntry, error) {
	proof := e.Receipt.InclusionProof
	if proof == nil || proof.Checkpoint == "" {
		return nil, malformed("log entry %d has no inclusion proof with a checkpoint, which a bundle v0.3 must have", e.Receipt.LogIndex)
	}
	logID, err := hex.DecodeString(e.Receipt.LogID)
	if err != nil || len(logID) == 0 {
		return nil, malformed("log id %.100q of log entry %d is not hex", e.Receipt.LogID, e.Receipt.LogIndex)
	}
	p := &protorekor.TransparencyLogEntry{
		LogIndex:          e.Receipt.LogIndex,
		LogId:             &protocommon.LogId{KeyId: logID},
		KindVersion:       &protorekor.KindVersion{Kind: e.Kind, Version: e.Version},
		IntegratedTime:    e.Receipt.IntegratedTime,
		CanonicalizedBody: e.Body,
		InclusionProof: &protorekor.InclusionProof{
			LogIndex:   proof.LogIndex,
			RootHash:   proof.RootHash[:],
			TreeSize:   proof.TreeSize,
			Checkpoint: &protorekor.Checkpoint{Envelope: proof.Checkpoint},
		},
	}
	for _, h := range proof.Hashes {
		p.InclusionProof.Hashes = append(p.InclusionProof.Hashes, h[:])
	}
	if len(e.SET) > 0 {
		p.InclusionPromise = &protorekor.InclusionPromise{SignedEntryTimestamp: e.SET}
	}
	return p, nil
}

// ParseEntry reads one log entry in the JSON form of TransparencyLogEntry, as a Rekor v2 log
// answers with it. Its errors wrap lodge.ErrMalformed or lodge.ErrLimit.
func ParseEntry(raw []byte) (lodge.Entry, error) {
	var p protorekor.TransparencyLogEntry
	err := protojson.UnmarshalOptions{DiscardUnknown: true, RecursionLimit: dsse.MaxDepth}.Unmarshal(raw, &p)
	if err != nil {
		return lodge.Entry{}, malformed("not a log entry: %s", oneLine(err))
	}
	return entryFromProto(&p)
}
