package node_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lodgehq/lodge/logtest"
	"github.com/lodgehq/lodge/node"
)

func load(t *testing.T, text string) (node.Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lodge.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return node.LoadConfig(path)
}

func TestLoadConfig(t *testing.T) {
	c, err := load(t, `
store: sqlite:/var/lib/lodge/lodge.db
signers: [{key: release.pub}, {identity: me@example.com, issuer: https://issuer.example}]
trustedRoot: root.json
cache: {ttl: 12h, entries: 10}
targets:
  rekor:  {log: {url: https://rekor.example, readURL: https://tiles.example, key: rekor.pub, origin: rekor.example,
           shards: [{url: https://next.example, key: next.pub}]}, concurrency: 7, rate: 2.5, settle: 3s, deadline: 48h, relist: 2h}
  images: {oci: {repository: registry.example/app}, requires: [rekor]}
deliver: [rekor, images]
`)
	if err != nil {
		t.Fatal(err)
	}
	rekor := c.Targets["rekor"]
	if rekor.Log.ReadURL != "https://tiles.example" || time.Duration(rekor.Settle) != 3*time.Second ||
		time.Duration(rekor.Deadline) != 48*time.Hour || time.Duration(rekor.Relist) != 2*time.Hour || rekor.Rate != 2.5 || rekor.Concurrency != 7 || rekor.Log.Shards[0].Key != "next.pub" {
		t.Errorf("rekor: %+v", rekor)
	}
	if c.Targets["images"].Requires[0] != "rekor" || time.Duration(c.Cache.TTL) != 12*time.Hour || c.Signers[1].Issuer != "https://issuer.example" {
		t.Errorf("config: %+v", c)
	}
	if _, err := load(t, "\n"); err != nil {
		t.Errorf("an empty configuration: %v", err)
	}
}

func TestLoadConfigRefuses(t *testing.T) {
	for want, text := range map[string]string{
		`unknown field "targts"`:               "targts: {}",
		"want either log or oci":               "targets: {a: {}}",
		"url is missing":                       "targets: {a: {log: {key: x}}}",
		"repository is missing":                "targets: {a: {oci: {}}}",
		"a log requires nothing":               "targets: {a: {log: {url: https://x}, requires: [a]}}",
		`there is no log "b"`:                  "targets: {a: {oci: {repository: x/y}, requires: [b]}}",
		`there is no target "b"`:               "deliver: [b]",
		"want a key, or an identity":           "signers: [{key: a, identity: b, issuer: c}]",
		"want sqlite:PATH":                     "store: mysql:x",
		"there is no path":                     `store: "sqlite:"`,
		"store: want postgres://USER@HOST":     "store: postgres:/u@h/d",
		"it names no database":                 `store: "postgres://u@h"`,
		"it is no URL":                         "store: postgres://u:p%zz@h/d",
		"concurrency: -1: want how many":       "targets: {a: {log: {url: https://x}, concurrency: -1}}",
		"rate: -1: want how many":              "targets: {a: {log: {url: https://x}, rate: -1}}",
		"rate: NaN: want how many":             "targets: {a: {log: {url: https://x}, rate: .nan}}",
		"rate: 1e-07: want how many":           "targets: {a: {log: {url: https://x}, rate: 0.0000001}}",
		"settle: 100000h0m0s: want at most":    "targets: {a: {log: {url: https://x}, settle: 100000h}}",
		`[2:8] "90d": want a time such as 30s`: "cache:\n  ttl: 90d",
		`watch.from: "end": want start or now`: "watch: {from: end}",
		"want a time above 0":                  "cache: {ttl: -1s}",
		"want a time such as":                  "cache: {ttl: soon}",
		"not found":                            "targets: [1, 2",
		"over 1048576 bytes":                   "# " + strings.Repeat("x", 1<<20),
		"wildcards are for policies":           `events: {webhooks: [{url: "https://x", secretFile: s, scopes: ["cve:*"]}]}`,
		"requires: there is no log \"self\"":   "targets: {self: {oci: {repository: x/y}, requires: [self]}}",
	} {
		_, err := load(t, text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: error %v, want one with %q", text, err, want)
			continue
		}
		if !strings.HasPrefix(err.Error(), "configuration ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.60s: want one line that begins with the file, got %q", text, err)
		}
	}
	if _, err := node.LoadConfig(filepath.Join(t.TempDir(), "none.yaml")); err == nil {
		t.Error("a file that is not there was read")
	}
}

// TestOpenRefusesURLs: each URL of a log and its shards has to be one, and has no password in it.
func TestOpenRefusesURLs(t *testing.T) {
	log, err := logtest.NewV2("log.test")
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "log.pub")
	if err := os.WriteFile(key, log.PublicPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, l := range map[string]node.Log{
		`log URL "": want http(s)://host`:          {URL: "https://x", Key: key, Shards: []node.Log{{Key: key}}},
		"https://u:xxxxx@y: leave user":            {URL: "https://x", ReadURL: "https://u:secret@y", Key: key},
		"https://u:xxxxx@z: leave user":            {URL: "https://x", Mirrors: []string{"https://u:secret@z"}, Key: key},
		"want http(s)://host, without user and pa": {URL: "u:secret@x", Key: key},
	} {
		n, err := node.Open(t.Context(), node.Config{
			Store: "sqlite:" + filepath.Join(t.TempDir(), "lodge.db"), Targets: map[string]node.Target{"a": {Log: &l}}})
		if err == nil {
			t.Errorf("%+v was opened: %v", l, n.Close())
			continue
		}
		if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}
