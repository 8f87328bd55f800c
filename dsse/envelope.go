package dsse

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/lodgehq/lodge"
)

// Further limits of an envelope, far beyond what is in use.
const (
	maxName    = 4096    // bytes of a payload type or keyid
	maxSig     = 1 << 16 // bytes of a signature; SLH-DSA's largest has 49,856
	maxMembers = 64      // of the envelope and of each signature
)

// Parse reads an envelope from its JSON (DSSE v1, envelope.md). Base64 may be standard or
// URL-safe, padded or not. Members that DSSE doesn't know are skipped. What two readers could
// take for two different things is refused: a member that is there twice or in another
// case, text that is not UTF-8, data after the end. So is an envelope without signatures.
//
// Errors are one line each and wrap lodge.ErrMalformed, or lodge.ErrLimit beyond the limits.
func Parse(raw []byte) (*Envelope, error) {
	switch {
	case len(raw) > MaxEnvelope:
		return nil, fmt.Errorf("%w: an envelope of %d bytes (at most %d)", lodge.ErrLimit, len(raw), MaxEnvelope)
	case len(bytes.TrimSpace(raw)) == 0:
		return nil, malformed("it is empty")
	case bytes.HasPrefix(raw, []byte("\xef\xbb\xbf")):
		return nil, malformed("it begins with a byte order mark")
	case !utf8.Valid(raw):
		return nil, malformed("it is not UTF-8")
	}
	p := parser{lexer: lexer{src: raw}}
	env, err := p.envelope()
	if err != nil {
		return nil, err
	}
	if err := p.end(); err != nil {
		return nil, err
	}
	return env, nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w envelope: %w", lodge.ErrMalformed, fmt.Errorf(format, args...))
}

// A parser reads the parts of an envelope.
type parser struct{ lexer }

func (p *parser) envelope() (*Envelope, error) {
	var env Envelope
	seen, err := p.members([]string{"payloadType", "payload", "signatures"}, func(name string) (err error) {
		switch name {
		case "payloadType":
			env.PayloadType, err = p.name("payloadType")
		case "payload":
			env.Payload, err = p.base64("payload", MaxPayload)
		case "signatures":
			env.Signatures, err = p.signatures()
		default:
			err = p.skip()
		}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case !slices.Contains(seen, "payload"):
		return nil, malformed(`it has no "payload"`)
	case env.PayloadType == "":
		return nil, malformed(`it has no "payloadType"`)
	case len(env.Signatures) == 0:
		return nil, malformed("it has no signatures")
	}
	return &env, nil
}

func (p *parser) signatures() (all []Signature, err error) {
	if p.peek() == 'n' {
		return nil, p.skip() // null: none
	}
	if p.peek() != '[' {
		return nil, malformed(`"signatures" is not an array`)
	}
	err = p.array(func() error {
		if len(all) == MaxSignatures {
			return fmt.Errorf("%w: more than %d signatures", lodge.ErrLimit, MaxSignatures)
		}
		sig, err := p.signature()
		if err != nil {
			return err
		}
		if len(sig.Sig) == 0 {
			return malformed(`signature %d has no "sig"`, len(all)+1)
		}
		all = append(all, sig)
		return nil
	})
	return all, err
}

func (p *parser) signature() (sig Signature, err error) {
	_, err = p.members([]string{"keyid", "sig"}, func(name string) (err error) {
		switch {
		case name == "sig":
			sig.Sig, err = p.base64("sig", maxSig)
		case name == "keyid" && p.peek() != 'n': // null: as if it were not there
			sig.KeyID, err = p.name("keyid")
		default:
			err = p.skip()
		}
		return err
	})
	return sig, err
}

// members reads an object and returns the names of its members; each reads the value of one.
func (p *parser) members(known []string, each func(name string) error) (seen []string, err error) {
	if p.peek() != '{' {
		if p.depth == 0 {
			return nil, malformed("it is not a JSON object")
		}
		return nil, malformed("a signature is not a JSON object")
	}
	err = p.object(func(raw []byte) error {
		name := string(raw)
		if len(seen) == maxMembers {
			return fmt.Errorf("%w: more than %d members in one object of the envelope", lodge.ErrLimit, maxMembers)
		}
		if slices.Contains(seen, name) {
			return malformed("the member %.100q is there twice", name)
		}
		for _, k := range known {
			// encoding/json, and so the servers, would take it for the known one.
			if name != k && strings.EqualFold(name, k) {
				return malformed("the member %q must be spelled %q", name, k)
			}
		}
		seen = append(seen, name)
		return each(name)
	})
	return seen, err
}

// name reads a string of at most maxName bytes.
func (p *parser) name(what string) (string, error) {
	text, err := p.string(what)
	if len(text) > maxName {
		return "", fmt.Errorf("%w: a %s of %d bytes (at most %d)", lodge.ErrLimit, what, len(text), maxName)
	}
	return string(text), err
}

// base64 reads a string of at most limit bytes in base64 of any kind.
func (p *parser) base64(what string, limit int) ([]byte, error) {
	text, err := p.string(what)
	if err != nil {
		return nil, err
	}
	encoding := base64.StdEncoding
	if bytes.ContainsAny(text, "-_") {
		encoding = base64.URLEncoding
	}
	if !bytes.Contains(text, []byte("=")) {
		encoding = encoding.WithPadding(base64.NoPadding)
	}
	decoded := make([]byte, encoding.DecodedLen(len(text)))
	n, err := encoding.Decode(decoded, text)
	if err != nil {
		return nil, malformed("%s is not base64: %w", what, err)
	}
	if n > limit {
		return nil, fmt.Errorf("%w: a %s of %d bytes (at most %d)", lodge.ErrLimit, what, n, limit)
	}
	return decoded[:n], nil
}

func (p *parser) string(what string) ([]byte, error) {
	if p.peek() != '"' {
		return nil, malformed("%s is not a string", what)
	}
	text, _, err := p.text()
	return text, err
}

// Sign returns the JSON of an envelope around payload with one signature by key and an
// empty keyid. The same arguments always give the same bytes.
func Sign(payloadType string, payload []byte, key *PrivateKey) ([]byte, error) {
	switch {
	case payloadType == "" || !utf8.ValidString(payloadType):
		return nil, malformed("the payload type %.100q is empty or not UTF-8", payloadType)
	case len(payloadType) > maxName:
		return nil, fmt.Errorf("%w: a payloadType of %d bytes (at most %d)", lodge.ErrLimit, len(payloadType), maxName)
	case len(payload) > MaxPayload:
		return nil, fmt.Errorf("%w: a payload of %d bytes (at most %d)", lodge.ErrLimit, len(payload), MaxPayload)
	}
	sig, err := key.Sign(PAE(payloadType, payload))
	if err != nil {
		return nil, err
	}
	raw := make([]byte, 0, base64.StdEncoding.EncodedLen(len(payload)+len(sig))+len(payloadType)+128)
	raw = append(raw, `{"payloadType":`...)
	raw = quote(raw, []byte(payloadType), false)
	raw = append(raw, `,"payload":"`...)
	raw = base64.StdEncoding.AppendEncode(raw, payload)
	raw = append(raw, `","signatures":[{"keyid":"","sig":"`...)
	raw = base64.StdEncoding.AppendEncode(raw, sig)
	return append(raw, `"}]}`...), nil
}
