package node_test

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/lodgehq/lodge/logtest"
	"github.com/lodgehq/lodge/node"
)

// shardServer is a log at an address of its own, which its origin names.
func shardServer(t *testing.T, entries int) (*logtest.Log, string) {
	t.Helper()
	var handler http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	log, err := logtest.NewV2(strings.TrimPrefix(server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		log.Append(fmt.Appendf(nil, `{"apiVersion":"0.0.1","kind":"other","number":%d}`, i))
	}
	handler = log
	return log, server.URL
}

// trustedRoot names logs, each from its day on.
func trustedRoot(t *testing.T, logs []*logtest.Log, urls []string) []byte {
	t.Helper()
	byID := map[string]*root.TransparencyLog{}
	for i, l := range logs {
		id, err := hex.DecodeString(l.Key().LogID())
		if err != nil {
			t.Fatal(err)
		}
		byID[l.Key().LogID()] = &root.TransparencyLog{BaseURL: urls[i], ID: id, PublicKey: l.Key().Public(), HashFunc: crypto.SHA256,
			SignatureHashFunc: crypto.SHA256, ValidityPeriodStart: time.Date(2025, 1, 1+i, 0, 0, 0, 0, time.UTC)}
	}
	made, err := root.NewTrustedRoot(root.TrustedRootMediaType01, nil, nil, nil, byID)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := made.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// repository serves a TUF repository with that trusted root, and returns its address and the
// file of its first root metadata.
func repository(t *testing.T, trusted []byte) (url, first string) {
	t.Helper()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	ok(err)
	signer, err := signature.LoadSigner(private, crypto.Hash(0))
	ok(err)
	key, err := metadata.KeyFromPublicKey(private.Public())
	ok(err)
	later := time.Now().Add(time.Hour).UTC()
	roles := metadata.Root(later)
	for _, role := range []string{metadata.ROOT, metadata.TARGETS, metadata.SNAPSHOT, metadata.TIMESTAMP} {
		ok(roles.Signed.AddKey(key, role))
	}
	targets := metadata.Targets(later)
	file, err := metadata.TargetFile().FromBytes("trusted_root.json", trusted, "sha256")
	ok(err)
	targets.Signed.Targets["trusted_root.json"] = file
	snapshot, timestamp := metadata.Snapshot(later), metadata.Timestamp(later)

	dir := t.TempDir()
	ok(os.Mkdir(filepath.Join(dir, "targets"), 0o755))
	write := func(name string, sign func(signature.Signer) (*metadata.Signature, error), bytes func(bool) ([]byte, error)) {
		t.Helper()
		_, err := sign(signer)
		ok(err)
		raw, err := bytes(false)
		ok(err)
		ok(os.WriteFile(filepath.Join(dir, name), raw, 0o600))
	}
	write("1.root.json", roles.Sign, roles.ToBytes)
	write("1.targets.json", targets.Sign, targets.ToBytes)
	write("1.snapshot.json", snapshot.Sign, snapshot.ToBytes)
	write("timestamp.json", timestamp.Sign, timestamp.ToBytes)
	ok(os.WriteFile(filepath.Join(dir, "targets", hex.EncodeToString(file.Hashes["sha256"])+".trusted_root.json"), trusted, 0o600))
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(server.Close)
	return server.URL, filepath.Join(dir, "1.root.json")
}

// TestFollowsShards follows a log whose shards a trusted root names, from a file and from a TUF
// repository: the old one is read to its end and closed, the new one goes on.
func TestFollowsShards(t *testing.T) {
	for name, describe := range map[string]func(t *testing.T, l *node.Log, trusted []byte){
		"trusted root": func(t *testing.T, l *node.Log, trusted []byte) {
			l.TrustedRoot = filepath.Join(t.TempDir(), "trusted_root.json")
			if err := os.WriteFile(l.TrustedRoot, trusted, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"TUF": func(t *testing.T, l *node.Log, trusted []byte) {
			t.Setenv("HOME", t.TempDir())
			l.TUF = &node.TUF{}
			l.TUF.URL, l.TUF.Root = repository(t, trusted)
		},
	} {
		t.Run(name, func(t *testing.T) {
			older, olderURL := shardServer(t, 300)
			newer, newerURL := shardServer(t, 3)
			l := node.Log{URL: newerURL}
			describe(t, &l, trustedRoot(t, []*logtest.Log{older, newer}, []string{olderURL, newerURL}))
			n, err := node.Open(t.Context(), node.Config{
				Store:   "sqlite:" + filepath.Join(t.TempDir(), "lodge.db"),
				Targets: map[string]node.Target{"log": {Log: &l}},
				Watch:   node.Watch{Every: node.Duration(5 * time.Millisecond)},
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- n.FollowLogs(ctx, []string{"log"}) }()
			defer func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
				if err := n.Close(); err != nil {
					t.Error(err)
				}
			}()
			awaitShards(t, n, older, newer, 3)
			newer.Append([]byte(`{"apiVersion":"0.0.1","kind":"other"}`))
			awaitShards(t, n, older, newer, 4)
		})
	}
}

// awaitShards waits until the older shard is closed and so much of the newer one is read.
func awaitShards(t *testing.T, n *node.Node, older, newer *logtest.Log, size int64) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); ; <-tick.C {
		logs, err := n.Logs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		byID := map[string]node.ShardStatus{}
		for _, s := range logs[0].Shards {
			byID[s.LogID] = s
		}
		closed, open := byID[older.Key().LogID()], byID[newer.Key().LogID()]
		if closed.Closed && closed.VerifiedThrough == 299 && !open.Closed && open.LogID != "" && open.Next == size {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("older %+v, newer %+v", closed, open)
		}
	}
}
