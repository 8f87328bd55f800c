package rekor_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/tlog"
)

// The vectors are real bundles of public logs. They are no part of the repository.
const vectors = "../../shared/vectors"

func readVector(t *testing.T, name ...string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(append([]string{vectors}, name...)...))
	if os.IsNotExist(err) {
		t.Skip("no vectors here")
	}
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

type adopter interface {
	Adopt(context.Context, *bundle.Attestation) (*lodge.Entry, error)
}

// rootKeys returns the keys of the logs of the trusted roots.
func rootKeys(t *testing.T) (v1, v2 []tlog.Key) {
	t.Helper()
	for _, name := range []string{"trusted_root_prod.json", "trusted_root_staging.json"} {
		var root struct {
			Logs []struct {
				BaseURL   string
				PublicKey struct{ RawBytes []byte }
			} `json:"tlogs"`
		}
		if err := json.Unmarshal(readVector(t, "roots", name), &root); err != nil {
			t.Fatal(err)
		}
		for _, l := range root.Logs {
			public, err := tlog.ParsePublicKey(l.PublicKey.RawBytes)
			if err != nil {
				t.Fatal(err)
			}
			host := strings.TrimPrefix(l.BaseURL, "https://")
			if strings.HasPrefix(host, "log") {
				key, err := tlog.NewV2Key(host, public)
				if err != nil {
					t.Fatal(err)
				}
				v2 = append(v2, key)
				continue
			}
			key, err := tlog.NewV1Key("", public)
			if err != nil {
				t.Fatal(err)
			}
			v1 = append(v1, key)
		}
	}
	return v1, v2
}

// adopters returns a client for each log of the trusted roots, by log id. None can reach its log.
func adopters(t *testing.T) map[string]adopter {
	t.Helper()
	v1, v2 := rootKeys(t)
	clients := map[string]adopter{}
	o := rekor.Options{URL: "http://log.test", HTTP: &http.Client{Transport: failing{errors.New("no network in this test")}}, Leaves: &leaves{}}
	for _, key := range v1 {
		o.Keys = []tlog.Key{key}
		c, err := rekor.NewV1(o)
		if err != nil {
			t.Fatal(err)
		}
		clients[c.LogID()] = c
	}
	for _, key := range v2 {
		o.Keys = []tlog.Key{key}
		c, err := rekor.NewV2(o)
		if err != nil {
			t.Fatal(err)
		}
		clients[c.LogID()] = c
	}
	return clients
}

func TestVectors(t *testing.T) {
	clients := adopters(t)
	var index []struct {
		File   string
		Expect struct{ Binding, TlogOK any }
	}
	if err := json.Unmarshal(readVector(t, "index.json"), &index); err != nil {
		t.Fatal(err)
	}
	adopted, refused := map[string]int{}, 0
	for _, v := range index {
		t.Run(v.File, func(t *testing.T) {
			b, err := bundle.Parse(readVector(t, v.File))
			if err != nil || len(b.Certificates) == 0 || len(b.Entries) == 0 {
				return // no DSSE envelope, or one that another package refuses
			}
			att, err := b.SignedByCertificate()
			if err != nil {
				return // refused before it comes here
			}
			c := clients[b.Entries[0].Receipt.LogID]
			if c == nil {
				return
			}
			e, err := c.Adopt(t.Context(), att)
			if want := v.Expect.TlogOK == true; (err == nil) != want {
				t.Fatalf("want %+v, got %v", v.Expect, err)
			}
			if err != nil {
				refused++
				return
			}
			adopted[e.Kind+"@"+e.Version]++
		})
	}
	for kind, least := range map[string]int{"dsse@0.0.1": 6, "intoto@0.0.2": 3, "hashedrekord@0.0.2": 2, "dsse@0.0.2": 1} {
		if adopted[kind] < least {
			t.Errorf("%d entries %s were adopted, want %d", adopted[kind], kind, least)
		}
	}
	if refused < 2 {
		t.Errorf("only %d were refused", refused)
	}
	t.Logf("adopted %v, refused %d", adopted, refused)
}

// TestVectorAnswersV1 reads answers of public v1 logs, in the servers' own JSON.
func TestVectorAnswersV1(t *testing.T) {
	keys, _ := rootKeys(t)
	for file, proven := range map[string]bool{
		"collector-rekor-entry-legacy.json":           true,
		"collector-rekor-entry-22784639.json":         true,
		"sigstore-java-entry-no-inclusion-proof.json": false,
	} {
		raw := readVector(t, "rest-v1", file)
		var entries map[string]struct{ Body []byte }
		if err := json.Unmarshal(raw, &entries); err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			leaf := tlog.LeafHash(e.Body)
			for _, changed := range []string{"", "integratedTime", "logIndex"} {
				answer := regexp.MustCompile(`("`+changed+`":\s*)(\d)`).ReplaceAllString(string(raw), "${1}1${2}")
				c, err := rekor.NewV1(rekor.Options{URL: "http://log.test", HTTP: &http.Client{Transport: saying(answer)}, Keys: keys})
				if err != nil {
					t.Fatal(err)
				}
				found, err := c.Find(t.Context(), nil, lodge.Intent{LeafHash: leaf})
				if (err == nil) != (changed == "") {
					t.Errorf("%s, %q changed: %v", file, changed, err)
				}
				if err == nil && (found.Entry.Receipt.InclusionProof != nil) != proven {
					t.Errorf("%s: %+v", file, found.Entry.Receipt)
				}
			}
		}
	}
}

// saying answers every request with the same body.
type saying string

func (s saying) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(string(s))), Request: r}, nil
}
