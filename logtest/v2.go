package logtest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/gowebpki/jcs"
	merkle "golang.org/x/mod/sumdb/tlog"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/tlog"
)

// object is a JSON object that is written, never read.
type object = map[string]any

func (l *Log) handleV2(w http.ResponseWriter, r *http.Request, body []byte) {
	path := strings.TrimPrefix(r.URL.Path, "/api/v2/")
	switch {
	case r.Method == http.MethodPost && path == "log/entries":
		l.createV2(w, body)
	case r.Method == http.MethodGet && path == "checkpoint":
		_, _ = fmt.Fprint(w, l.checkpoint(l.tree.size()))
	case r.Method == http.MethodGet && strings.HasPrefix(path, "tile/"):
		l.tile(w, path)
	default:
		answer(w, http.StatusNotFound, object{"code": 5, "message": "Not Found", "details": []any{}})
	}
}

func (l *Log) createV2(w http.ResponseWriter, request []byte) {
	body, err := admitV2(request)
	if err != nil {
		answer(w, http.StatusBadRequest, object{"code": 3, "message": err.Error(), "details": []any{}})
		return
	}
	if index, known := l.known(body); known {
		w.Header().Set("X-Log-Index", strconv.FormatInt(index, 10))
		message := fmt.Sprintf("an equivalent entry already exists in the transparency log with index %d", index)
		answer(w, http.StatusConflict, object{"code": 6, "message": message, "details": []any{}})
		return
	}
	index := l.tree.add(body)
	size := l.tree.size()
	root := l.tree.root(size)
	hashes := [][]byte{}
	for _, h := range l.tree.inclusion(index, size) {
		hashes = append(hashes, slices.Clone(h[:]))
	}
	answer(w, http.StatusCreated, object{
		"logIndex":         strconv.FormatInt(index, 10),
		"logId":            object{"keyId": mustHex(l.key.LogID())},
		"kindVersion":      object{"kind": "hashedrekord", "version": "0.0.2"},
		"integratedTime":   "0",
		"inclusionPromise": nil,
		"inclusionProof": object{
			"logIndex":   strconv.FormatInt(index, 10),
			"treeSize":   strconv.FormatInt(size, 10),
			"rootHash":   root[:],
			"hashes":     hashes,
			"checkpoint": object{"envelope": l.checkpoint(size)},
		},
		"canonicalizedBody": body,
	})
}

// known tells whether an entry is there or on its way, and the index that it has or will have.
func (l *Log) known(body []byte) (int64, bool) {
	for i, p := range l.pending {
		if bytes.Equal(p.body, body) {
			return l.tree.size() + int64(i), true
		}
	}
	index, known := l.tree.seen[tlog.LeafHash(body)]
	return index, known
}

// tile serves a tile (C2SP tlog-tiles); x/mod's paths have the height in them.
func (l *Log) tile(w http.ResponseWriter, path string) {
	path = strings.Replace(strings.TrimPrefix(path, "tile/"), "entries/", "data/", 1)
	tile, err := merkle.ParseTilePath("tile/8/" + path)
	if err != nil {
		http.NotFound(w, nil)
		return
	}
	width := l.tree.size()>>(8*max(tile.L, 0)) - tile.N<<8 // hashes that this tile has
	if int64(tile.W) > width || l.hidePartial && tile.W < 256 && width >= 256 {
		http.NotFound(w, nil)
		return
	}
	var data []byte
	if tile.L < 0 {
		data = l.tree.bundle(tile)
	} else {
		data, err = merkle.ReadTileData(tile, &l.tree)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = bytes.NewReader(data).WriteTo(w)
}

// bundle is an entry bundle: each entry behind its length (C2SP tlog-tiles, "Log entries").
func (t *tree) bundle(tile merkle.Tile) (data []byte) {
	for _, leaf := range t.leaves[tile.N<<8:][:tile.W] {
		data = binary.BigEndian.AppendUint16(data, uint16(len(leaf.body)))
		data = append(data, leaf.body...)
	}
	return data
}

// algorithms are those of rekor-tiles' registry: what a key must be, and its hash.
var algorithms = map[string]struct {
	hash  crypto.Hash
	name  string
	takes func(crypto.PublicKey) bool
}{
	"PKIX_ECDSA_P256_SHA_256":       {crypto.SHA256, "SHA2_256", onCurve(elliptic.P256())},
	"PKIX_ECDSA_P384_SHA_384":       {crypto.SHA384, "SHA2_384", onCurve(elliptic.P384())},
	"PKIX_ECDSA_P521_SHA_512":       {crypto.SHA512, "SHA2_512", onCurve(elliptic.P521())},
	"PKIX_RSA_PKCS1V15_2048_SHA256": {crypto.SHA256, "SHA2_256", ofBits(2048)},
	"PKIX_RSA_PKCS1V15_3072_SHA256": {crypto.SHA256, "SHA2_256", ofBits(3072)},
	"PKIX_RSA_PKCS1V15_4096_SHA256": {crypto.SHA256, "SHA2_256", ofBits(4096)},
	"PKIX_ED25519_PH": {crypto.SHA512, "SHA2_512", func(key crypto.PublicKey) bool {
		_, ok := key.(ed25519.PublicKey)
		return ok
	}},
}

func onCurve(curve elliptic.Curve) func(crypto.PublicKey) bool {
	return func(key crypto.PublicKey) bool {
		k, ok := key.(*ecdsa.PublicKey)
		return ok && k.Curve == curve
	}
}

func ofBits(bits int) func(crypto.PublicKey) bool {
	return func(key crypto.PublicKey) bool {
		k, ok := key.(*rsa.PublicKey)
		return ok && k.N.BitLen() == bits
	}
}

// admitV2 checks a request as rekor-tiles does, and returns the canonical body of its entry.
func admitV2(request []byte) ([]byte, error) {
	type raw struct {
		RawBytes []byte `json:"rawBytes"`
	}
	var r struct {
		Request *struct {
			Digest    []byte `json:"digest"`
			Signature struct {
				Content  []byte `json:"content"`
				Verifier struct {
					KeyDetails  string `json:"keyDetails"`
					PublicKey   *raw   `json:"publicKey"`
					Certificate *raw   `json:"x509Certificate"`
				} `json:"verifier"`
			} `json:"signature"`
		} `json:"hashedRekordRequestV002"`
	}
	dec := json.NewDecoder(bytes.NewReader(request))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return nil, err
	}
	if r.Request == nil {
		return nil, errors.New("invalid type, must be hashedrekord")
	}
	refused := errors.New("invalid hashedrekord request")
	sig := r.Request.Signature
	verifier := object{"keyDetails": sig.Verifier.KeyDetails}
	var key crypto.PublicKey
	switch {
	case sig.Verifier.PublicKey != nil:
		key, _ = x509.ParsePKIXPublicKey(sig.Verifier.PublicKey.RawBytes)
		verifier["publicKey"] = sig.Verifier.PublicKey
	case sig.Verifier.Certificate != nil:
		if cert, err := x509.ParseCertificate(sig.Verifier.Certificate.RawBytes); err == nil {
			key = cert.PublicKey
		}
		verifier["x509Certificate"] = sig.Verifier.Certificate
	}
	algorithm, ok := algorithms[sig.Verifier.KeyDetails]
	if !ok || !algorithm.takes(key) || len(r.Request.Digest) != algorithm.hash.Size() ||
		!verifies(key, algorithm.hash, r.Request.Digest, sig.Content) {
		return nil, refused
	}
	return canonical(object{"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": object{"hashedRekordV002": object{
		"data":      object{"algorithm": algorithm.name, "digest": r.Request.Digest},
		"signature": object{"content": sig.Content, "verifier": verifier},
	}}})
}

// verifies tells whether sig is key's signature over a digest.
func verifies(key crypto.PublicKey, hash crypto.Hash, digest, sig []byte) bool {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(key, digest, sig)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(key, hash, digest, sig) == nil
	case ed25519.PublicKey:
		return ed25519.VerifyWithOptions(key, digest, sig, &ed25519.Options{Hash: hash}) == nil
	}
	return false
}

func canonical(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return jcs.Transform(raw)
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func mustHex(s string) []byte {
	d, err := lodge.ParseDigest("sha256:" + s)
	if err != nil {
		panic(err)
	}
	return d[:]
}
