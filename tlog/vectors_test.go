package tlog_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/tlog"
)

// The vectors are real entries of public logs. They are no part of the repository.
const vectors = "../../shared/vectors"

func readVector(t *testing.T, v any, name ...string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(append([]string{vectors}, name...)...))
	if os.IsNotExist(err) {
		t.Skip("no vectors here")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		t.Fatalf("%v: %v", name, err)
	}
}

// rootKeys returns the logs' keys of the trusted roots by log id.
func rootKeys(t *testing.T) map[string]tlog.Key {
	t.Helper()
	keys := map[string]tlog.Key{}
	for _, name := range []string{"trusted_root_prod.json", "trusted_root_staging.json"} {
		var root struct {
			Logs []struct {
				BaseURL   string
				PublicKey struct{ RawBytes []byte }
				LogID     struct{ KeyID []byte }
			} `json:"tlogs"`
		}
		readVector(t, &root, "roots", name)
		for _, l := range root.Logs {
			public, err := tlog.ParsePublicKey(l.PublicKey.RawBytes)
			if err != nil {
				t.Fatal(err)
			}
			u, err := url.Parse(l.BaseURL)
			if err != nil {
				t.Fatal(err)
			}
			key, err := tlog.NewV1Key("", public)
			if strings.HasPrefix(u.Host, "log") {
				key, err = tlog.NewV2Key(u.Host, public)
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(l.LogID.KeyID); got != key.LogID() {
				t.Errorf("%s: log id %s, the trusted root says %s", l.BaseURL, key.LogID(), got)
			}
			keys[key.LogID()] = key
		}
	}
	return keys
}

type vectorEntry struct {
	LogID struct{ KeyID []byte }
	Proof *struct {
		LogIndex, TreeSize string
		RootHash           []byte
		Hashes             [][]byte
		Checkpoint         struct{ Envelope string }
	} `json:"inclusionProof"`
	Body []byte `json:"canonicalizedBody"`
}

func (e vectorEntry) proof(t *testing.T) lodge.InclusionProof {
	t.Helper()
	p := lodge.InclusionProof{RootHash: lodge.Digest(e.Proof.RootHash), Checkpoint: e.Proof.Checkpoint.Envelope}
	var err error
	if p.LogIndex, err = strconv.ParseInt("0"+e.Proof.LogIndex, 10, 64); err != nil {
		t.Fatal(err)
	}
	if p.TreeSize, err = strconv.ParseInt(e.Proof.TreeSize, 10, 64); err != nil {
		t.Fatal(err)
	}
	for _, h := range e.Proof.Hashes {
		p.Hashes = append(p.Hashes, lodge.Digest(h))
	}
	return p
}

func TestVectors(t *testing.T) {
	keys := rootKeys(t)
	var index []struct {
		File   string
		Expect struct{ Inclusion, Checkpoint string }
	}
	readVector(t, &index, "index.json")
	checked := 0
	for _, v := range index {
		t.Run(v.File, func(t *testing.T) {
			var bundle struct {
				Material struct {
					Entries []vectorEntry `json:"tlogEntries"`
				} `json:"verificationMaterial"`
			}
			readVector(t, &bundle, v.File)
			e := bundle.Material.Entries[0]
			key, known := keys[hex.EncodeToString(e.LogID.KeyID)]
			if e.Proof == nil || v.Expect.Checkpoint == "unknown log key" {
				if e.Proof != nil && known {
					t.Error("the key is known")
				}
				return
			}
			if !known {
				t.Fatalf("no key for %s", base64.StdEncoding.EncodeToString(e.LogID.KeyID))
			}
			checked++
			proof := e.proof(t)
			if err := tlog.VerifyInclusion(tlog.LeafHash(e.Body), proof); (err == nil) != (v.Expect.Inclusion == "ok") {
				t.Errorf("inclusion: want %s, got %v", v.Expect.Inclusion, err)
			}
			_, err := key.Prove(tlog.LeafHash(e.Body), proof)
			if want := v.Expect.Inclusion == "ok" && v.Expect.Checkpoint == "ok"; (err == nil) != want {
				t.Errorf("proof: want %+v, got %v", v.Expect, err)
			}
		})
	}
	if checked < 40 {
		t.Errorf("only %d vectors were checked", checked)
	}
}

func TestVectorCheckpoints(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(vectors, "checkpoints", "*.txt"))
	if err != nil || len(files) == 0 {
		t.Skip("no vectors here")
	}
	key := publicLogKey(t)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if cp, err := key.Open(raw); err != nil || cp.Origin != publicLog {
			t.Errorf("%s: %+v, %v", file, cp, err)
		}
	}
}
