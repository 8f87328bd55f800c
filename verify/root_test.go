package verify_test

import (
	"crypto"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/logtest"
	"github.com/lodgehq/lodge/verify"
)

// logsRoot is a trusted root with these logs alone.
func logsRoot(t *testing.T, logs ...*root.TransparencyLog) *verify.Root {
	t.Helper()
	byID := make(map[string]*root.TransparencyLog)
	for _, l := range logs {
		l.HashFunc, l.SignatureHashFunc = crypto.SHA256, crypto.SHA256
		byID[hex.EncodeToString(l.ID)] = l
	}
	made := must[*root.TrustedRoot](t)(root.NewTrustedRoot(root.TrustedRootMediaType01, nil, nil, nil, byID))
	return must[*verify.Root](t)(verify.ParseRoot(must[[]byte](t)(made.MarshalJSON())))
}

func logV2(t *testing.T, l *logtest.Log) *root.TransparencyLog {
	t.Helper()
	return &root.TransparencyLog{
		BaseURL: "https://" + l.Key().Origin() + ":8443", ID: must[[]byte](t)(hex.DecodeString(l.Key().LogID())), PublicKey: l.Key().Public(),
		ValidityPeriodStart: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC),
	}
}

func TestRootLogs(t *testing.T) {
	v1, v2 := newLogV1(t), must[*logtest.Log](t)(logtest.NewV2("log.test"))
	old := &root.TransparencyLog{
		BaseURL: "https://rekor.test", ID: v1.id[:], PublicKey: v1.Public(),
		ValidityPeriodStart: time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC), ValidityPeriodEnd: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	unknown := logV2(t, must[*logtest.Log](t)(logtest.NewV2("other.test")))
	unknown.BaseURL = "https://elsewhere.test" // so its id is of no origin that can be known

	type known struct {
		URL, LogID string
		Version    int
		Start, End time.Time
	}
	var got []known
	for _, l := range logsRoot(t, old, unknown, logV2(t, v2)).Logs() {
		got = append(got, known{l.URL, l.Key.LogID(), l.Version, l.Start.UTC(), l.End.UTC()})
	}
	want := []known{
		{"https://log.test:8443", v2.Key().LogID(), 2, time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC), time.Time{}},
		{"https://rekor.test", hex.EncodeToString(v1.id[:]), 1, old.ValidityPeriodStart, old.ValidityPeriodEnd},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLogValidAt(t *testing.T) {
	day := func(d int) time.Time { return time.Date(2025, 1, d, 0, 0, 0, 0, time.UTC) }
	closed, open := verify.Log{Start: day(2), End: day(4)}, verify.Log{Start: day(2)}
	for d, want := range map[int][2]bool{1: {false, false}, 2: {true, true}, 4: {true, true}, 5: {false, true}} {
		if got := [2]bool{closed.ValidAt(day(d)), open.ValidAt(day(d))}; got != want {
			t.Errorf("on day %d: %v, want %v", d, got, want)
		}
	}
}

// TestRootBelievesLogsInTime: an entry from after the log's time in the root counts for nothing.
func TestRootBelievesLogsInTime(t *testing.T) {
	key, l := newKey(t), newLogV1(t)
	signers := verify.Signers{Keys: []*dsse.PublicKey{public(t, key)}, Root: logsRoot(t, &root.TransparencyLog{
		BaseURL: "https://rekor.test", ID: l.id[:], PublicKey: l.Public(),
		ValidityPeriodStart: time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC), ValidityPeriodEnd: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC),
	})}
	att := must[*bundle.Attestation](t)(signers.Attest(envelope(signature(t, key))))
	for year, ok := range map[int]bool{2020: false, 2023: true, 2025: false} {
		raw := must[[]byte](t)(att.Encode(l.entry(t, att, time.Date(year, 6, 1, 0, 0, 0, 0, time.UTC))))
		r := must[verify.Result](t)(verify.Bundle(raw, verify.Trust{Signers: signers, Bind: contains}))
		if r.OK != ok {
			t.Errorf("%d: %t, want %t: %+v", year, r.OK, ok, r.Checks)
		}
	}
}

// TestRootBelievesNoClaimedTime: a time that the log has not signed does not bring an entry back
// into the log's time, against that of a timestamp.
func TestRootBelievesNoClaimedTime(t *testing.T) {
	w, key, l := newWorld(t), newKey(t), newLogV1(t)
	b := envelope(signature(t, key))
	b.Timestamps = [][]byte{must[[]byte](t)(w.sigs.TimestampResponse(b.Envelope.Signatures[0].Sig))}
	signers := verify.Signers{Keys: []*dsse.PublicKey{public(t, key)}}
	att := must[*bundle.Attestation](t)(signers.Attest(b))
	for end, ok := range map[int]bool{2024: false, 2999: true} {
		signers.Root = verify.NewRoot(inLogs{material{VirtualSigstore: w.sigs}, map[string]*root.TransparencyLog{hex.EncodeToString(l.id[:]): {
			BaseURL: "https://rekor.test", PublicKey: l.Public(), ValidityPeriodEnd: time.Date(end, 1, 1, 0, 0, 0, 0, time.UTC),
		}}})
		e := l.entry(t, att, time.Date(2023, 6, 1, 0, 0, 0, 0, time.UTC))
		e.SET = nil
		r := must[verify.Result](t)(verify.Bundle(must[[]byte](t)(att.Encode(e)), verify.Trust{Signers: signers, Bind: contains}))
		check(t, r, ok, []string{"timestamp ok"})
	}
}

// inLogs is an instance with these logs.
type inLogs struct {
	material
	logs map[string]*root.TransparencyLog
}

func (l inLogs) RekorLogs() map[string]*root.TransparencyLog { return l.logs }

func TestParseRootRefuses(t *testing.T) {
	for name, raw := range map[string]string{"nothing": "", "another document": `{"a":1}`, "another version": `{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=9"}`} {
		if _, err := verify.ParseRoot([]byte(raw)); !errors.Is(err, lodge.ErrMalformed) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, err := verify.ParseRoot(make([]byte, 9<<20)); !errors.Is(err, lodge.ErrLimit) {
		t.Errorf("too large: error %v", err)
	}
}

// TestRealRoots reads the roots of the public instances, where they are at hand.
func TestRealRoots(t *testing.T) {
	dir := filepath.Join("..", "..", "shared", "vectors")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("no vectors here")
	}
	for name, want := range map[string][]string{
		"prod": {"2 https://log2025-1.rekor.sigstore.dev", "1 https://rekor.sigstore.dev"},
		"staging": {"2 https://log2026-1.us-east4.rekor.sigstage.dev", "2 https://log2025-alpha3.rekor.sigstage.dev",
			"2 https://log2025-alpha2.rekor.sigstage.dev", "2 https://log2025-alpha1.rekor.sigstage.dev", "1 https://rekor.sigstage.dev"},
	} {
		var got []string
		for _, l := range readRoot(t, dir, name).Logs() {
			got = append(got, string(rune('0'+l.Version))+" "+l.URL)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
