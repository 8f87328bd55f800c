package logtest

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	merkle "golang.org/x/mod/sumdb/tlog"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/tlog"
)

func (l *Log) handleV1(w http.ResponseWriter, r *http.Request, body []byte) {
	path := strings.TrimPrefix(r.URL.Path, "/api/v1/")
	uuid, isEntry := strings.CutPrefix(path, "log/entries/")
	switch request := r.Method + " " + path; {
	case request == "POST log/entries":
		l.createV1(w, body)
	case request == "POST log/entries/retrieve":
		l.retrieveEntries(w, body)
	case request == "GET log/entries":
		index, err := strconv.ParseInt(r.URL.Query().Get("logIndex"), 10, 64)
		if err != nil || index < shift || index >= shift+l.tree.size() {
			fail(w, http.StatusNotFound, "")
			return
		}
		answer(w, http.StatusOK, l.entryAt(index-shift))
	case r.Method == http.MethodGet && isEntry:
		l.entryV1(w, uuid)
	case request == "POST index/retrieve":
		l.retrieve(w, body)
	case request == "GET log":
		size := l.tree.size()
		answer(w, http.StatusOK, object{
			"inactiveShards": []any{l.shardBefore()}, "rootHash": l.tree.root(size).Hex(), "treeSize": size,
			"signedTreeHead": l.checkpoint(size), "treeID": strconv.FormatInt(l.treeID, 10),
		})
	case request == "GET log/proof":
		l.consistency(w, r)
	default:
		fail(w, http.StatusNotFound, "path "+r.URL.Path+" was not found")
	}
}

func fail(w http.ResponseWriter, status int, message string) {
	answer(w, status, object{"code": status, "message": message})
}

func (l *Log) uuid(hash lodge.Digest) string { return fmt.Sprintf("%016x%s", l.treeID, hash.Hex()) }

func (l *Log) createV1(w http.ResponseWriter, request []byte) {
	body, err := admitV1(request)
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		fail(w, http.StatusInternalServerError, err.Error()) // as the real one does
		return
	case err != nil:
		fail(w, http.StatusBadRequest, "error processing entry: "+err.Error())
		return
	}
	uuid := l.uuid(tlog.LeafHash(body))
	w.Header().Set("Location", "/api/v1/log/entries/"+uuid)
	if _, known := l.known(body); known {
		fail(w, http.StatusConflict, "an equivalent entry already exists in the transparency log with UUID "+uuid)
		return
	}
	index := l.tree.add(body)
	w.Header().Set("Etag", uuid)
	answer(w, http.StatusCreated, object{uuid: l.anon(index)})
}

func (l *Log) entryV1(w http.ResponseWriter, uuid string) {
	if len(uuid) == 80 {
		uuid = uuid[16:]
	}
	for i, leaf := range l.tree.leaves {
		if leaf.hash.Hex() == uuid {
			answer(w, http.StatusOK, object{l.uuid(leaf.hash): l.anon(int64(i))})
			return
		}
	}
	fail(w, http.StatusNotFound, "")
}

// shift is how far the index over all shards is ahead of that in the shard, so that nobody
// takes one for the other.
const shift = 1000

// shardBefore is a frozen shard that the log had before, with as many entries.
func (l *Log) shardBefore() object {
	const treeID = 3904496407287907110
	root := sha256.Sum256([]byte("the shard before"))
	return object{
		"rootHash": hex.EncodeToString(root[:]), "treeSize": shift, "treeID": strconv.FormatInt(treeID, 10),
		"signedTreeHead": l.note(fmt.Sprintf("%s - %d", l.origin, treeID), shift, root),
	}
}

func (l *Log) entryAt(index int64) object {
	return object{l.uuid(l.tree.leaves[index].hash): l.anon(index)}
}

// retrieveEntries answers with at most ten entries by index, or, as the real one does, with
// none where one of them is missing.
func (l *Log) retrieveEntries(w http.ResponseWriter, query []byte) {
	var q struct {
		LogIndexes []int64 `json:"logIndexes"`
	}
	if err := json.Unmarshal(query, &q); err != nil || len(q.LogIndexes) > 10 {
		fail(w, http.StatusUnprocessableEntity, "logIndexes")
		return
	}
	found := []object{}
	for _, index := range q.LogIndexes {
		if index < shift || index >= shift+l.tree.size() {
			fail(w, http.StatusNotFound, "")
			return
		}
		found = append(found, l.entryAt(index-shift))
	}
	answer(w, http.StatusOK, found)
}

// anon is a LogEntryAnon.
func (l *Log) anon(index int64) object {
	leaf, size := l.tree.leaves[index], l.tree.size()
	promised := object{
		"body": leaf.body, "integratedTime": leaf.at, "logID": l.key.LogID(), "logIndex": index + shift,
	}
	message, err := canonical(promised)
	if err != nil {
		panic(err)
	}
	hashes := []string{}
	for _, h := range l.tree.inclusion(index, size) {
		hashes = append(hashes, h.Hex())
	}
	promised["verification"] = object{
		"signedEntryTimestamp": l.sign(message),
		"inclusionProof": object{
			"checkpoint": l.checkpoint(size), "hashes": hashes, "logIndex": index,
			"rootHash": l.tree.root(size).Hex(), "treeSize": size,
		},
	}
	return promised
}

// retrieve is the search index, by the digests that an entry's body names.
func (l *Log) retrieve(w http.ResponseWriter, query []byte) {
	var q struct{ Hash string }
	if err := json.Unmarshal(query, &q); err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	type value struct{ Algorithm, Value string }
	uuids := []string{}
	for _, leaf := range l.tree.leaves {
		var entry struct {
			Spec struct {
				PayloadHash, EnvelopeHash value
				Content                   struct{ PayloadHash value }
				Data                      struct{ Hash value }
			}
		}
		if json.Unmarshal(leaf.body, &entry) != nil {
			continue
		}
		for _, v := range []value{entry.Spec.PayloadHash, entry.Spec.EnvelopeHash, entry.Spec.Content.PayloadHash, entry.Spec.Data.Hash} {
			if v.Value != "" && v.Algorithm+":"+v.Value == q.Hash {
				uuids = append(uuids, l.uuid(leaf.hash))
			}
		}
	}
	answer(w, http.StatusOK, uuids)
}

func (l *Log) consistency(w http.ResponseWriter, r *http.Request) {
	first, err1 := strconv.ParseInt(r.URL.Query().Get("firstSize"), 10, 64)
	last, err2 := strconv.ParseInt(r.URL.Query().Get("lastSize"), 10, 64)
	if err1 != nil || err2 != nil || first < 1 || first > last || last > l.tree.size() {
		fail(w, http.StatusBadRequest, "firstSize and lastSize")
		return
	}
	proof, err := merkle.ProveTree(last, first, &l.tree)
	if err != nil {
		fail(w, http.StatusInternalServerError, err.Error())
		return
	}
	hashes := []string{}
	for _, h := range digests(proof) {
		hashes = append(hashes, h.Hex())
	}
	answer(w, http.StatusOK, object{"hashes": hashes, "rootHash": l.tree.root(l.tree.size()).Hex()})
}

// admitV1 checks a proposed dsse 0.0.1 entry as Rekor v1 does, and returns its canonical body.
func admitV1(request []byte) ([]byte, error) {
	var r struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Spec       struct {
			ProposedContent struct {
				Envelope  string   `json:"envelope"`
				Verifiers [][]byte `json:"verifiers"`
			} `json:"proposedContent"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(request, &r); err != nil {
		return nil, err
	}
	proposed := r.Spec.ProposedContent
	if r.Kind != "dsse" || r.APIVersion != "0.0.1" || len(proposed.Verifiers) != 1 {
		return nil, errors.New("want a dsse 0.0.1 entry with one verifier")
	}
	var envelope struct {
		Payload     []byte
		PayloadType string
		Signatures  []struct{ Sig []byte }
	}
	if err := json.Unmarshal([]byte(proposed.Envelope), &envelope); err != nil {
		return nil, errors.New("envelope: " + err.Error()) // a refusal: only the request's own syntax is a 500
	}
	if len(envelope.Signatures) != 1 {
		return nil, errors.New("all signatures must have a key that verifies it")
	}
	block, _ := pem.Decode(proposed.Verifiers[0])
	if block == nil {
		return nil, errors.New("could not parse public key")
	}
	pae := fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(envelope.PayloadType), envelope.PayloadType, len(envelope.Payload), envelope.Payload)
	if !verifiesV1(block, pae, envelope.Signatures[0].Sig) {
		return nil, errors.New("could not verify envelope")
	}
	return canonical(object{"apiVersion": "0.0.1", "kind": "dsse", "spec": object{
		"envelopeHash": sum([]byte(proposed.Envelope)),
		"payloadHash":  sum(envelope.Payload),
		"signatures": []any{object{
			"signature": base64.StdEncoding.EncodeToString(envelope.Signatures[0].Sig),
			"verifier":  proposed.Verifiers[0],
		}},
	}})
}

// verifiesV1 verifies as Rekor v1 does: SHA-256 whatever the key, and pure Ed25519.
func verifiesV1(block *pem.Block, message, sig []byte) bool {
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if block.Type == "CERTIFICATE" {
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = cert.PublicKey
		}
	}
	if err != nil {
		return false
	}
	if key, ok := key.(ed25519.PublicKey); ok {
		return ed25519.Verify(key, message, sig)
	}
	digest := sha256.Sum256(message)
	return verifies(key, crypto.SHA256, digest[:], sig)
}

func sum(b []byte) object {
	digest := sha256.Sum256(b)
	return object{"algorithm": "sha256", "value": hex.EncodeToString(digest[:])}
}
