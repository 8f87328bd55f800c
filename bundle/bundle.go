// Package bundle reads Sigstore bundles v0.1 to v0.3 and bare DSSE envelopes, and writes
// Sigstore bundles v0.3 that are the same bytes in every build.
//
// It judges nothing: what it reads is as the sender wrote it. Floor 1, pure: it may import
// the root package and dsse; no network, no clock, no files.
package bundle

import (
	"crypto"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/dsse"
)

// MediaType is the media type of the bundles that this package writes (Sigstore bundle
// specification, v0.3).
const MediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// Limits on what Parse takes.
const (
	MaxSize         = dsse.MaxEnvelope + 8<<20 // of the JSON, in bytes: an envelope, and what vouches for it
	MaxEntries      = 32                       // transparency log entries
	MaxTimestamps   = 32                       // RFC 3161 timestamps
	MaxCertificates = 16                       // of one chain

	maxName      = 4096    // bytes of a payload type, as in dsse
	maxSignature = 1 << 16 // bytes, as in dsse
)

// mediaTypes are the spellings in use. The oldest three carry the version as a parameter;
// the dotted form came with v0.3, and some tools wrote it for the versions before.
var mediaTypes = map[string]bool{
	"application/vnd.dev.sigstore.bundle+json;version=0.1": true,
	"application/vnd.dev.sigstore.bundle+json;version=0.2": true,
	"application/vnd.dev.sigstore.bundle+json;version=0.3": true,
	"application/vnd.dev.sigstore.bundle.v0.1+json":        true,
	"application/vnd.dev.sigstore.bundle.v0.2+json":        true,
	MediaType: true,
}

// Bundle is an envelope with what came along to verify it. Nothing of it is verified.
type Bundle struct {
	MediaType    string         // as given; empty where it was a bare DSSE envelope
	Envelope     *dsse.Envelope // at least one signature; nil where it signs a file
	Message      *Message       // set where it signs a file, by ParseSigned only
	Certificates [][]byte       // DER, leaf first; empty where a key signed
	Timestamps   [][]byte       // DER, RFC 3161 TimeStampResp
	Entries      []lodge.Entry  // of transparency logs
}

// Message is what a messageSignature signs: any file, by its digest.
type Message struct {
	Hash      crypto.Hash // SHA-256, SHA-384 or SHA-512
	Digest    []byte
	Signature []byte
}

// Parse reads a Sigstore bundle that holds a DSSE envelope, or a bare DSSE envelope. Its
// errors wrap lodge.ErrMalformed or lodge.ErrLimit and fit on one line.
func Parse(raw []byte) (*Bundle, error) {
	b, err := ParseSigned(raw)
	if err == nil && b.Message != nil {
		return nil, malformed("the bundle holds a messageSignature, which signs a file and is no attestation (a dsseEnvelope is needed)")
	}
	return b, err
}

// ParseSigned is Parse that takes a bundle around a messageSignature too.
func ParseSigned(raw []byte) (*Bundle, error) {
	if len(raw) > MaxSize {
		return nil, fmt.Errorf("%w: a bundle of %d bytes (at most %d)", lodge.ErrLimit, len(raw), MaxSize)
	}
	var top shape
	if err := json.Unmarshal(raw, &top); err != nil {
		return nil, malformed("not a JSON object: %v", err)
	}
	if !top.isBundle() {
		if top.Statement && !top.Payload {
			return nil, malformed("a bare statement, which nobody signed: make an envelope of it by lodge sign")
		}
		return parseEnvelope(raw)
	}
	var p protobundle.Bundle
	// Members that a later minor version adds are skipped: they can only add to what vouches
	// for the envelope, and the incoming bytes are kept as they are elsewhere.
	err := protojson.UnmarshalOptions{DiscardUnknown: true, RecursionLimit: dsse.MaxDepth}.Unmarshal(raw, &p)
	if err != nil {
		return nil, malformed("not a Sigstore bundle: %s", oneLine(err))
	}
	return fromProto(&p)
}

// shape tells which members the top level has.
type shape struct {
	MediaType member `json:"mediaType"`
	Material  member `json:"verificationMaterial"`
	Envelope  member `json:"dsseEnvelope"`
	Message   member `json:"messageSignature"`

	Statement member `json:"_type"`
	Payload   member `json:"payload"`
}

func (s shape) isBundle() bool { return bool(s.MediaType || s.Material || s.Envelope || s.Message) }

// member is whether a member is there; it keeps no copy of a large value.
type member bool

func (m *member) UnmarshalJSON([]byte) error { *m = true; return nil }

// maxCertificate bounds the JSON of a certificate beside a signature, in bytes.
const maxCertificate = 64 << 10

// parseEnvelope reads a bare envelope. Some signers put their certificate beside the
// signature (`cert`, PEM); it counts where just one signature does.
func parseEnvelope(raw []byte) (*Bundle, error) {
	env, err := dsse.Parse(raw)
	if err != nil {
		return nil, err
	}
	b := &Bundle{Envelope: env}
	var certs struct {
		Signatures []struct {
			Cert json.RawMessage `json:"cert"`
		} `json:"signatures"`
	}
	if err := json.Unmarshal(raw, &certs); err != nil {
		return nil, malformed("%v", err)
	}
	for _, s := range certs.Signatures {
		var text string
		if len(s.Cert) > maxCertificate || json.Unmarshal(s.Cert, &text) != nil {
			continue
		}
		block, _ := pem.Decode([]byte(text))
		if block == nil || block.Type != "CERTIFICATE" {
			continue
		}
		if b.Certificates != nil {
			b.Certificates = nil
			break
		}
		b.Certificates = [][]byte{block.Bytes}
	}
	return b, nil
}

func fromProto(p *protobundle.Bundle) (*Bundle, error) {
	if !mediaTypes[p.GetMediaType()] {
		return nil, malformed("a Sigstore bundle of unknown version, mediaType %.100q (v0.1 to v0.3 are known)", p.GetMediaType())
	}
	b := &Bundle{MediaType: p.GetMediaType()}
	var err error
	if m := p.GetMessageSignature(); m != nil {
		b.Message, err = message(m)
	} else {
		b.Envelope, err = envelope(p.GetDsseEnvelope())
	}
	if err != nil {
		return nil, err
	}
	return b, b.addMaterial(p.GetVerificationMaterial())
}

// addMaterial takes over what came along to verify the envelope.
func (b *Bundle) addMaterial(material *protobundle.VerificationMaterial) error {
	chain := material.GetX509CertificateChain().GetCertificates()
	if leaf := material.GetCertificate(); leaf != nil {
		chain = append(chain, leaf)
	}
	if len(chain) > MaxCertificates {
		return fmt.Errorf("%w: %d certificates (at most %d)", lodge.ErrLimit, len(chain), MaxCertificates)
	}
	for _, c := range chain {
		if len(c.GetRawBytes()) == 0 {
			return malformed("an empty certificate in the bundle")
		}
		b.Certificates = append(b.Certificates, c.GetRawBytes())
	}

	stamps := material.GetTimestampVerificationData().GetRfc3161Timestamps()
	if len(stamps) > MaxTimestamps {
		return fmt.Errorf("%w: %d timestamps (at most %d)", lodge.ErrLimit, len(stamps), MaxTimestamps)
	}
	for _, t := range stamps {
		b.Timestamps = append(b.Timestamps, t.GetSignedTimestamp())
	}

	entries := material.GetTlogEntries()
	if len(entries) > MaxEntries {
		return fmt.Errorf("%w: %d log entries (at most %d)", lodge.ErrLimit, len(entries), MaxEntries)
	}
	for i, e := range entries {
		entry, err := entryFromProto(e)
		if err != nil {
			return fmt.Errorf("log entry %d of the bundle: %w", i, err)
		}
		b.Entries = append(b.Entries, entry)
	}
	return nil
}

// hashes are protobuf-specs' HashAlgorithm (sigstore_common.proto).
var hashes = map[protocommon.HashAlgorithm]crypto.Hash{
	protocommon.HashAlgorithm_SHA2_256: crypto.SHA256,
	protocommon.HashAlgorithm_SHA2_384: crypto.SHA384,
	protocommon.HashAlgorithm_SHA2_512: crypto.SHA512,
}

func message(p *protocommon.MessageSignature) (*Message, error) {
	m := &Message{Hash: hashes[p.GetMessageDigest().GetAlgorithm()], Digest: p.GetMessageDigest().GetDigest(), Signature: p.GetSignature()}
	switch {
	case len(m.Signature) == 0:
		return nil, malformed("an empty signature in the messageSignature")
	case len(m.Signature) > maxSignature:
		return nil, fmt.Errorf("%w: a signature of %d bytes (at most %d)", lodge.ErrLimit, len(m.Signature), maxSignature)
	case m.Hash == 0 || len(m.Digest) != m.Hash.Size():
		return nil, malformed("the messageSignature has no digest by SHA-256, SHA-384 or SHA-512, so what it signs is not known")
	}
	return m, nil
}

func envelope(p *protodsse.Envelope) (*dsse.Envelope, error) {
	switch {
	case p == nil:
		return nil, malformed("the bundle holds no dsseEnvelope")
	case p.GetPayloadType() == "":
		return nil, malformed("the envelope has no payloadType")
	case len(p.GetPayloadType()) > maxName:
		return nil, fmt.Errorf("%w: a payloadType of %d bytes (at most %d)", lodge.ErrLimit, len(p.GetPayloadType()), maxName)
	case len(p.GetPayload()) > dsse.MaxPayload:
		return nil, fmt.Errorf("%w: a payload of %d bytes (at most %d)", lodge.ErrLimit, len(p.GetPayload()), dsse.MaxPayload)
	case len(p.GetSignatures()) == 0:
		return nil, malformed("the envelope has no signatures")
	case len(p.GetSignatures()) > dsse.MaxSignatures:
		return nil, fmt.Errorf("%w: %d signatures (at most %d)", lodge.ErrLimit, len(p.GetSignatures()), dsse.MaxSignatures)
	}
	env := &dsse.Envelope{PayloadType: p.GetPayloadType(), Payload: p.GetPayload()}
	for _, s := range p.GetSignatures() {
		switch {
		case len(s.GetSig()) == 0:
			return nil, malformed("an empty signature in the envelope")
		case len(s.GetSig()) > maxSignature:
			return nil, fmt.Errorf("%w: a signature of %d bytes (at most %d)", lodge.ErrLimit, len(s.GetSig()), maxSignature)
		}
		env.Signatures = append(env.Signatures, dsse.Signature{KeyID: s.GetKeyid(), Sig: s.GetSig()})
	}
	return env, nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{lodge.ErrMalformed}, args...)...)
}

// oneLine evens out the text of a protobuf error, which varies its white space from build
// to build on purpose, and cuts off the value that it quotes where that is long.
func oneLine(err error) string {
	text := strings.Join(strings.Fields(strings.TrimPrefix(err.Error(), "proto:")), " ")
	if len(text) > maxErrorText {
		text = strings.ToValidUTF8(text[:maxErrorText], "") + "…"
	}
	return text
}

const maxErrorText = 200 // bytes
