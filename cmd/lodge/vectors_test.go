package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/verify"
)

// The vectors are real bundles and answers of public logs. They are no part of the repository.
const vectors = "../../../shared/vectors"

func readVector(t *testing.T, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(vectors, name))
	if os.IsNotExist(err) {
		t.Skip("no vectors here")
	}
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// instances returns what the production and the staging instance are verified with; never both
// at a time.
func instances(t *testing.T) map[string]verify.Trust {
	t.Helper()
	all := map[string]verify.Trust{}
	for name, file := range map[string]string{"prod": "roots/trusted_root_prod.json", "staging": "roots/trusted_root_staging.json"} {
		all[name] = withRoot(t, readVector(t, file))
	}
	return all
}

func withRoot(t *testing.T, raw []byte) verify.Trust {
	t.Helper()
	root, err := verify.ParseRoot(raw)
	if err != nil {
		t.Fatal(err)
	}
	return verify.Trust{Signers: verify.Signers{Root: root}, Bind: rekor.BindEntry, Signed: rekor.Signed}
}

// refusals says for each negative vector which check refuses it, by the end of its folder's
// name; "unreadable" where the file can't be read, for the member that is named.
var refusals = map[string]string{
	"rekor2-checkpoint-no-matching-signature":              "checkpoint",
	"rekor2-checkpoint-missing-origin":                     "checkpoint",
	"rekor2-checkpoint-missing-size":                       "checkpoint",
	"rekor2-checkpoint-missing-log-signature":              "checkpoint",
	"invalid-checkpoint-signature":                         "checkpoint",
	"checkpoint-wrong-roothash":                            "checkpoint",
	"invalid-inclusion-proof":                              "inclusion",
	"rekor2-no-inclusion-proof":                            "no log",
	"set-invalid-signature":                                "SET",
	"wrong-hashedrekord-entry":                             "binding",
	"incorrect-public-key":                                 "binding",
	"dsse-mismatch-envelope":                               "binding",
	"rekor2-dsse-mismatch-envelope":                        "binding",
	"dsse-invalid-sig":                                     "signature",
	"bundle-invalid-base64-signature":                      "unreadable: bytes field signature",
	"bundle-with-root-cert":                                "certificate",
	"integrated-time-in-future":                            "certificate",
	"intoto-expired-certificate":                           "certificate", // and the log is of another instance
	"intoto-log-entry-mismatch":                            "certificate", // the same
	"rekor2-no-timestamp":                                  "certificate", // nothing says when it was signed
	"rekor2-timestamp-untrusted-tsa-without-embedded-cert": "timestamp",
	"rekor2-timestamp-with-incorrect-time":                 "unreadable: bytes field signedTimestamp",
}

func TestVectors(t *testing.T) {
	var index []struct{ File, Path, Log string }
	if err := json.Unmarshal(readVector(t, "index.json"), &index); err != nil {
		t.Fatal(err)
	}
	all := instances(t)
	accepted, refused := 0, 0
	for _, v := range index {
		t.Run(v.File, func(t *testing.T) {
			raw := readVector(t, v.File)
			home, foreign := all["prod"], all["staging"]
			if strings.Contains(v.Log, "sigstage") {
				home, foreign = foreign, home
			}
			if r, err := judge(raw, foreign); err == nil && r.OK {
				t.Error("it verifies with the root of another instance")
			}
			folder := path.Base(path.Dir(v.Path))
			switch want := refusals[strings.TrimSuffix(folder, "_fail")]; {
			case strings.HasPrefix(v.File, "negative/") && want != "":
				refused++
				refuse(t, raw, home, want)
			case strings.Contains(v.File, "payload-mismatch"):
				refuse(t, raw, home, "timestamp") // the log has it, and the timestamp is over something else
			case strings.HasPrefix(v.File, "negative/"):
				refused++
				refuseElsewhere(t, raw, home, folder)
			default:
				accepted++
				if r, err := judge(raw, home); err != nil || !r.OK || r.Logged != verify.Proven {
					t.Errorf("it is refused: %v, %+v", err, r)
				}
			}
		})
	}
	if accepted < 25 || refused != 24 {
		t.Errorf("%d accepted, %d refused", accepted, refused)
	}
}

// refuse checks that the check of that name is what refuses raw.
func refuse(t *testing.T, raw []byte, trust verify.Trust, want string) {
	t.Helper()
	r, err := judge(raw, trust)
	if says, unreadable := strings.CutPrefix(want, "unreadable: "); unreadable {
		if !errors.Is(err, lodge.ErrMalformed) || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want one that says %q", err, says)
		}
		return
	}
	var failed []verify.Name
	for _, c := range r.Checks {
		if c.Outcome == verify.Failed {
			failed = append(failed, c.Name)
		}
	}
	if err != nil || r.OK || want != "no log" && !slices.Contains(failed, verify.Name(want)) || want == "no log" && r.Logged != verify.Unlogged {
		t.Errorf("error %v, OK %t, failed %v, want %s", err, r.OK, failed, want)
	}
}

// refuseElsewhere checks what is refused for something beside the bundle: a real one, with
// another file or under another root.
func refuseElsewhere(t *testing.T, raw []byte, trust verify.Trust, folder string) {
	t.Helper()
	if r, err := judge(raw, trust); err != nil || !r.OK {
		t.Fatalf("as it is, it does not verify: %v, %+v", err, r)
	}
	switch folder {
	case "wrong-material_fail":
		trust.Artifact = []byte("another file")
		refuse(t, raw, trust, "artifact")
	case "invalid-ct-key_fail":
		refuse(t, raw, withRoot(t, otherCTKeys(t, readVector(t, "roots/trusted_root_prod.json"))), "certificate")
	default:
		t.Errorf("nothing is known of %s", folder)
	}
}

// otherCTKeys puts another key in place of each that a root's CT logs have.
func otherCTKeys(t *testing.T, raw []byte) []byte {
	t.Helper()
	var root map[string]json.RawMessage
	if err := json.Unmarshal(raw, &root); err != nil {
		t.Fatal(err)
	}
	var logs []map[string]json.RawMessage
	if err := json.Unmarshal(root["ctlogs"], &logs); err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range logs {
		var public map[string]any
		if err := json.Unmarshal(l["publicKey"], &public); err != nil {
			t.Fatal(err)
		}
		public["rawBytes"] = spki
		if l["publicKey"], err = json.Marshal(public); err != nil {
			t.Fatal(err)
		}
	}
	if root["ctlogs"], err = json.Marshal(logs); err != nil {
		t.Fatal(err)
	}
	changed, err := json.Marshal(root)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

// TestVectorTime: a timestamp of another time, of which the negative vector has line breaks in
// its base64 that no other reader takes either; without those it is the certificate.
func TestVectorTime(t *testing.T) {
	raw := readVector(t, "negative/ormance-rekor2-timestamp-with-incorrect-time-fail-bundle.sigstore.json-0.json")
	refuse(t, []byte(strings.ReplaceAll(string(raw), `\n`, "")), instances(t)["staging"], "certificate")
}

// TestVectorAnswers: logs' answers in the servers' own JSON, and with one thing changed each.
func TestVectorAnswers(t *testing.T) {
	all := instances(t)
	for _, tt := range []struct {
		file, instance string
		want           verify.Grade // "" where it is of a kind that is not read
	}{
		{"rest-v1/collector-rekor-entry-22784639.json", "prod", verify.Proven},
		{"rest-v1/collector-rekor-entry-legacy.json", "prod", verify.Proven},
		{"rest-v1/sigstore-java-entry.json", "staging", verify.Proven},
		{"rest-v1/sigstore-java-entry-no-inclusion-proof.json", "staging", verify.Promised},
		{"rest-v1/sigstore-java-jar-entry.json", "prod", ""},
		{"rest-v1/trivy-log-entries.json", "prod", ""},
		{"rest-v2/sigstore-java-entry-v2.json", "staging", verify.Proven},
		{"rest-v2/sigstore-java-jar-entry-v2.json", "staging", ""},
	} {
		raw := string(readVector(t, tt.file))
		r, err := judge([]byte(raw), all[tt.instance])
		if err != nil || r.OK != (tt.want != "") || r.OK && r.Logged != tt.want {
			t.Errorf("%s: %v, %+v", tt.file, err, r)
		}
		if tt.want == "" {
			continue
		}
		for _, change := range []string{`("logIndex":\s*"?)(\d)`, `("integratedTime":\s*"?)([1-9])`, `("body":\s*"eyJhc)(G)`, `("canonicalizedBody":\s*"eyJhc)(G)`,
			`("rootHash":\s*".)(\w)`, `("signedEntryTimestamp":\s*".{20})(\w)`, `("[0-9a-f]{60})([0-9a-f])`} {
			re := regexp.MustCompile(change)
			if m := re.FindStringSubmatchIndex(raw); m != nil {
				other := byte('4')
				if raw[m[4]] == other {
					other = '5'
				}
				changed := raw[:m[4]] + string(other) + raw[m[5]:]
				if r, err := judge([]byte(changed), all[tt.instance]); err == nil && r.OK {
					t.Errorf("%s: it verifies with %s changed", tt.file, change)
				}
			}
		}
	}
}
