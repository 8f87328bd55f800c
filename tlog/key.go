package tlog

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"regexp"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/lodgehq/lodge"
)

// Key is what one log's checkpoints are verified with: its public key and the names that
// its notes carry. The zero Key verifies nothing.
type Key struct {
	origin string
	v1     bool
	id     [sha256.Size]byte
	public crypto.PublicKey
}

// ParsePublicKey reads a log's public key: a PEM block "PUBLIC KEY", the same block's DER,
// or a verifier key of the note format ("name+hash+key"). Errors wrap lodge.ErrMalformed.
func ParsePublicKey(raw []byte) (crypto.PublicKey, error) {
	if vkey := bytes.TrimSpace(raw); verifierKey.Match(vkey) {
		return parseVerifierKey(string(vkey))
	}
	der := raw
	if block, _ := pem.Decode(raw); block != nil {
		if block.Type != "PUBLIC KEY" {
			return nil, fmt.Errorf("%w log key: PEM block of type %.40q, want PUBLIC KEY", lodge.ErrMalformed, block.Type)
		}
		der = block.Bytes
	}
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w log key: %w", lodge.ErrMalformed, err)
	}
	return public, nil
}

func parseVerifierKey(vkey string) (crypto.PublicKey, error) {
	if _, err := note.NewVerifier(vkey); err != nil {
		return nil, fmt.Errorf("%w log key: %w", lodge.ErrMalformed, err)
	}
	// NewVerifier has checked name+hash+base64(0x01 ‖ key); base64 may hold a '+' itself.
	encoded := strings.SplitN(vkey, "+", 3)[2]
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(raw) != 1+ed25519.PublicKeySize {
		return nil, fmt.Errorf("%w log key: not a key of Ed25519", lodge.ErrMalformed)
	}
	return ed25519.PublicKey(raw[1:]), nil
}

// NewV1Key returns the key of a Rekor v1 log or of one of its shards. Its id is the SHA-256
// of the DER-encoded public key. Its origin reads "host - treeID"; "" takes any of that
// form, since all that users have of a v1 log is a URL and a key.
func NewV1Key(origin string, public crypto.PublicKey) (Key, error) {
	id, err := keyID(public)
	if err != nil {
		return Key{}, err
	}
	if origin != "" && !v1Origin.MatchString(origin) {
		return Key{}, fmt.Errorf("log origin %.100q: want \"host - treeID\"", origin)
	}
	return Key{origin: origin, v1: true, id: id, public: public}, nil
}

// NewV2Key returns the key of a Rekor v2 log. Its id is, for Ed25519, SHA-256(origin ‖ "\n" ‖
// 0x01 ‖ raw key) (C2SP signed-note, untruncated), for ECDSA the SHA-256 of the DER-encoded
// key. The first four bytes are the key hash of its signature lines.
func NewV2Key(origin string, public crypto.PublicKey) (Key, error) {
	if !validName(origin) {
		return Key{}, fmt.Errorf("log origin %.100q: want a name without white space or \"+\"", origin)
	}
	if raw, ok := public.(ed25519.PublicKey); ok {
		id := sha256.Sum256(append([]byte(origin+"\n\x01"), raw...))
		return Key{origin: origin, id: id, public: public}, nil
	}
	id, err := keyID(public)
	if err != nil {
		return Key{}, err
	}
	return Key{origin: origin, id: id, public: public}, nil
}

// keyID returns the SHA-256 of the DER of a key that signs checkpoints.
func keyID(public crypto.PublicKey) (id [sha256.Size]byte, err error) {
	switch public.(type) {
	case *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return id, fmt.Errorf("a log key of type %T is not supported (ECDSA and Ed25519 are)", public)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return id, fmt.Errorf("log key: %w", err)
	}
	return sha256.Sum256(der), nil
}

// LogID returns the log's id, 64 hex digits.
func (k Key) LogID() string { return hex.EncodeToString(k.id[:]) }

// Origin returns the first line of the log's checkpoints, "" where any is taken (v1).
func (k Key) Origin() string { return k.origin }

// Public returns the log's public key.
func (k Key) Public() crypto.PublicKey { return k.public }

// Verify tells whether sig is this log's signature over message: Ed25519, or ASN.1 ECDSA over
// SHA-256. Rekor v1's signed entry timestamps are such signatures.
func (k Key) Verify(message, sig []byte) bool {
	switch public := k.public.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(public, message, sig)
	case *ecdsa.PublicKey:
		digest := sha256.Sum256(message)
		return ecdsa.VerifyASN1(public, digest[:], sig)
	}
	return false
}

// Verifier implements note.Verifiers. Signatures by anybody else (witnesses, another key of
// the same log) are unknown to it, so that note.Open passes over them.
func (k Key) Verifier(name string, hash uint32) (note.Verifier, error) {
	if k.public == nil || hash != binary.BigEndian.Uint32(k.id[:4]) || !k.v1 && name != k.origin {
		return nil, &note.UnknownVerifierError{Name: name, KeyHash: hash}
	}
	return signatureLine{Key: k, name: name, hash: hash}, nil
}

// signatureLine is the note.Verifier of one line: a v1 log signs as its host name, which is
// known from the note only.
type signatureLine struct {
	Key
	name string
	hash uint32
}

func (s signatureLine) Name() string    { return s.name }
func (s signatureLine) KeyHash() uint32 { return s.hash }

var (
	verifierKey = regexp.MustCompile(`^[^+\s]+\+[0-9a-f]{8}\+[A-Za-z0-9+/=]+$`)

	v1Origin = regexp.MustCompile(`^(\S+) - ([0-9]{1,19})$`)
	nameForm = regexp.MustCompile(`^[^\s+\p{Z}\p{Cc}]+$`)
)

// validName tells whether name can be a key's name (C2SP signed-note).
func validName(name string) bool { return nameForm.MatchString(name) }
