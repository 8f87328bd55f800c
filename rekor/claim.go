package rekor

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/lodgehq/lodge"
)

// ErrKind says that an entry is of a kind that holds no signature that lodge reads.
var ErrKind = errors.New("an entry of a kind that is not read")

// Claim is what an entry says, whatever its kind: that somebody signed something with a
// digest. The log has checked the signature, nobody the certificate.
type Claim struct {
	OverPAE   bool // Digest is of a DSSE envelope's PAE, or of a file; else of a DSSE payload
	Hash      crypto.Hash
	Digest    []byte
	Verifiers []Verifier
}

// Verifier is the key or certificate that a signature verifies under.
type Verifier struct {
	DER         []byte
	Certificate bool // else DER is a SubjectPublicKeyInfo
}

// ReadBody reads the canonical body of an entry. The error wraps ErrKind, lodge.ErrLimit, or
// lodge.ErrMalformed where the body is not what its kind says.
func ReadBody(body []byte) (Claim, error) {
	if c, ok := readHashedRekordV002(body); ok {
		return c, nil
	}
	return readSlow(body)
}

func readSlow(body []byte) (Claim, error) {
	kind, version, err := kindOf(body)
	if err != nil {
		return Claim{}, err
	}
	switch kind + "@" + version {
	case "hashedrekord@0.0.2", "dsse@0.0.2", "hashedrekord@0.0.1", "dsse@0.0.1", "intoto@0.0.2":
	default:
		return Claim{}, fmt.Errorf("%w: %.40q, version %.20q", ErrKind, kind, version)
	}
	c, err := parseBody(body)
	if err != nil {
		return Claim{}, err
	}
	read := Claim{OverPAE: c.overPAE, Hash: c.hash, Digest: c.digest}
	for _, m := range c.marks {
		read.Verifiers = append(read.Verifiers, Verifier{m.verifier, m.certificate})
	}
	return read, nil
}

// readHashedRekordV002 reads what nearly all entries of v2 logs are, in their one canonical
// form, without a JSON decoder: a follower reads millions of them. What is not exactly of
// that form is left to the decoder.
func readHashedRekordV002(body []byte) (c Claim, ok bool) {
	s := scanner{rest: body, ok: len(body) <= maxBody}
	s.skip(`{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":{"data":{"algorithm":"`)
	c.Hash = protoHashes[string(s.text())]
	s.skip(`,"digest":"`)
	c.Digest = s.base64()
	s.skip(`},"signature":{"content":"`)
	signature := s.text()
	s.skip(`,"verifier":{"keyDetails":"`)
	details := s.text()
	var v Verifier
	if s.next(`,"publicKey":{"rawBytes":"`) {
		v.DER = s.base64()
	} else {
		s.skip(`,"x509Certificate":{"rawBytes":"`)
		v.DER, v.Certificate = s.base64(), true
	}
	s.skip(`}}}}}}`)
	if !s.ok || len(s.rest) > 0 || c.Hash == 0 || len(c.Digest) != c.Hash.Size() || !plain(details) || !canonicalBase64(signature) {
		return Claim{}, false
	}
	c.OverPAE, c.Verifiers = true, []Verifier{v}
	return c, true
}

// scanner goes through a text of known form. ok turns false for good where that differs.
type scanner struct {
	rest []byte
	ok   bool
}

func (s *scanner) next(text string) bool {
	if !s.ok || len(s.rest) < len(text) || string(s.rest[:len(text)]) != text {
		return false
	}
	s.rest = s.rest[len(text):]
	return true
}

func (s *scanner) skip(text string) { s.ok = s.next(text) }

// text returns what stands before the next quotation mark and goes on behind that.
func (s *scanner) text() []byte {
	i := bytes.IndexByte(s.rest, '"')
	if !s.ok || i < 0 {
		s.ok = false
		return nil
	}
	text := s.rest[:i]
	s.rest = s.rest[i+1:]
	return text
}

func (s *scanner) base64() []byte {
	text := s.text()
	raw := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := strictBase64.Decode(raw, text)
	s.ok = s.ok && err == nil && base64.StdEncoding.EncodedLen(n) == len(text) // the decoder passes over line breaks
	return raw[:n]
}

var strictBase64 = base64.StdEncoding.Strict()

func canonicalBase64(text []byte) bool {
	s := scanner{rest: append(bytes.Clone(text), '"'), ok: true}
	s.base64()
	return s.ok
}

// plain tells whether text is letters, digits and underscores: nothing that JSON writes in
// more than one way.
func plain(text []byte) bool {
	return len(bytes.TrimLeft(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")) == 0
}

// DigestsOf returns what entries of a payload are about: the digests of the payload and of its
// PAE, by every hash that logs use.
func DigestsOf(payload, pae []byte) []lodge.Digest {
	sum := func(h crypto.Hash, content []byte) lodge.Digest {
		w := h.New()
		w.Write(content)
		return digestKey(w.Sum(nil))
	}
	return []lodge.Digest{
		sum(crypto.SHA256, payload), // dsse and intoto entries hash payloads by nothing else
		sum(crypto.SHA256, pae), sum(crypto.SHA384, pae), sum(crypto.SHA512, pae),
	}
}

// digestKey makes a digest of any length one of 32 bytes. SHA-256 ones stay what they are.
func digestKey(digest []byte) lodge.Digest {
	if len(digest) == len(lodge.Digest{}) {
		return lodge.Digest(digest)
	}
	return lodge.DigestOf(digest)
}

// About returns Digest as DigestsOf writes it.
func (c Claim) About() lodge.Digest { return digestKey(c.Digest) }
