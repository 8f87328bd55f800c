package scenario

import (
	"slices"
	"testing"
	"time"

	"github.com/lodgehq/lodge/e2e/servers"
)

const (
	verifyRuns  = 5 // of each, one after the other; the medians count
	verifyRatio = 3 // how much faster lodge has to be
)

// VerifiesFaster wants lodge verify to judge a bundle, as a process, in a third of the time that cosign
// takes, by the same key and trusted root.
func VerifiesFaster(t *testing.T, s *Site) {
	cosign := servers.NewCosign(t)
	trusted := cosign.TrustedRoot(s.Log)
	m := s.machine()
	r := m.Run("bundle", m.push(s.signed(s.statement(1)))[0].Key)
	if r.Code != 0 {
		t.Fatalf("lodge bundle: exit status %d\n%s", r.Code, r.Stderr)
	}
	file := s.write("lodged.sigstore.json", []byte(r.Stdout))
	took := func(run func() servers.Result) time.Duration {
		t.Helper()
		start := time.Now()
		r := run()
		d := time.Since(start)
		if r.Code != 0 {
			t.Fatalf("exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
		}
		return d
	}
	var ours, theirs []time.Duration
	for range verifyRuns + 1 {
		theirs = append(theirs, took(func() servers.Result {
			return cosign.Run("verify-blob-attestation", "--bundle", file, "--key", s.Signer.Public, "--trusted-root", trusted,
				"--type", predicateType, "--check-claims=false")
		}))
		ours = append(ours, took(func() servers.Result {
			return m.Run("verify", file, "--key", s.Signer.Public, "--trusted-root", trusted)
		}))
	}
	median := func(all []time.Duration) time.Duration {
		all = slices.Sorted(slices.Values(all[1:])) // the first ones fill the disk's cache
		return all[len(all)/2]
	}
	ratio := float64(median(theirs)) / float64(median(ours))
	t.Logf("lodge verify %s, cosign verify-blob-attestation %s: %.1f times as fast", median(ours).Round(time.Millisecond/10), median(theirs).Round(time.Millisecond/10), ratio)
	if ratio < verifyRatio {
		t.Errorf("lodge %v, cosign %v: want %d times as fast", ours, theirs, verifyRatio)
	}
}
