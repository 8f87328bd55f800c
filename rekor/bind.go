package rekor

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
)

// An inclusion proof says that an entry is in a log, and nothing about whose it is. The
// checks of this file say that it is the entry of an attestation.

// errUnbound says that an entry is not about an attestation.
var errUnbound = errors.New("the entry is of something else")

// about checks that the claim is over what att carries: its payload, or its PAE.
func (c claim) about(att *bundle.Attestation) error {
	if m := att.Message; m != nil {
		if !c.overPAE || c.hash != m.Hash || !bytes.Equal(c.digest, m.Digest) {
			return fmt.Errorf("%w: its digest differs", errUnbound)
		}
		return nil
	}
	content := att.Payload
	if c.overPAE {
		content = att.PAE()
	}
	h := c.hash.New()
	h.Write(content)
	if !bytes.Equal(h.Sum(nil), c.digest) {
		return fmt.Errorf("%w: its digest differs", errUnbound)
	}
	return nil
}

// Bind checks that body is the entry of att: the digest is of its content, and one of the
// signatures is att's own under att's own key or certificate.
func Bind(body []byte, att *bundle.Attestation) error {
	c, err := parseBody(body)
	if err != nil {
		return err
	}
	if err := c.about(att); err != nil {
		return err
	}
	for _, m := range c.marks {
		if bytes.Equal(m.signature, att.Signature) && m.verifies(att) {
			return nil
		}
	}
	return fmt.Errorf("%w: its signature or key differs", errUnbound)
}

// verifies tells whether m's verifier is att's certificate, or the key that att was verified with.
func (m mark) verifies(att *bundle.Attestation) bool {
	if m.certificate {
		return len(att.Certificates) > 0 && bytes.Equal(m.verifier, att.Certificates[0])
	}
	key, err := dsse.ParsePublicKey(m.verifier)
	return err == nil && att.PublicKey != nil && bytes.Equal(key.SPKI, att.PublicKey.SPKI)
}

// same returns att as body logged it: the same content, signed by the same signer, perhaps with
// another signature, which is verified here over att's own PAE; att itself where that is
// what was logged; nil where body is somebody else's. at is when the entry was logged.
func (o Options) same(body []byte, att *bundle.Attestation, at time.Time) *bundle.Attestation {
	if Bind(body, att) == nil {
		return att
	}
	c, err := parseBody(body)
	if err != nil || c.about(att) != nil {
		return nil
	}
	for _, m := range c.marks {
		if other, err := o.resigned(m, att, at); err == nil {
			return other
		}
	}
	return nil
}

// resigned returns att with the signature of m, where that is by the same signer.
func (o Options) resigned(m mark, att *bundle.Attestation, at time.Time) (*bundle.Attestation, error) {
	other := *att
	other.Entries = nil
	if !bytes.Equal(m.signature, att.Signature) {
		other.Signature, other.Timestamps = m.signature, nil // those were over the other one
	}
	switch {
	case m.certificate != (len(att.Certificates) > 0):
		return nil, errors.New("of certificate and bare key, it has the other one")
	case m.certificate && !m.verifies(att):
		cert, err := x509.ParseCertificate(m.verifier)
		if err != nil {
			return nil, err
		}
		if err := o.sameSigner(cert, at, att.Signer); err != nil {
			return nil, err
		}
		other.Certificates = [][]byte{m.verifier}
		if other.PublicKey, err = dsse.NewPublicKey(cert.PublicKey); err != nil {
			return nil, err
		}
	case !m.verifies(att):
		return nil, errors.New("it is signed with another key")
	}
	var err error
	if other.Algorithm, err = other.PublicKey.Verify(att.PAE(), m.signature); err != nil {
		return nil, err
	}
	return &other, nil
}

func (o Options) sameSigner(cert *x509.Certificate, at time.Time, want lodge.Signer) error {
	if o.Signer == nil {
		return errors.New("it is signed under another certificate, and there is no trust root to judge it by")
	}
	signer, err := o.Signer(cert, at)
	if err != nil {
		return err
	}
	if signer != want {
		return fmt.Errorf("it is signed by %s", signer)
	}
	return nil
}

func decodeBase64(text []byte) ([]byte, error) {
	return base64.StdEncoding.AppendDecode(nil, text)
}
