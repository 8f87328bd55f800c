package rekor_test

import (
	"errors"
	"testing"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/rekor"
)

func FuzzParseAnswer(f *testing.F) {
	f.Add([]byte(`{"00":{"body":"e30=","logID":"00","logIndex":1,"verification":{"inclusionProof":{"hashes":[],"rootHash":"00"},"signedEntryTimestamp":"AA=="}}}`))
	f.Add([]byte(`[{"00":{"body":"e30="}}]`))
	f.Add([]byte(`{"logIndex":"1","canonicalizedBody":"e30="}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		entries, err := rekor.ParseAnswer(raw)
		switch {
		case err == nil && len(entries) == 0:
			t.Error("no entries and no error")
		case err != nil && !errors.Is(err, lodge.ErrMalformed) && !errors.Is(err, lodge.ErrLimit):
			t.Errorf("neither malformed nor over a limit: %v", err)
		}
		for _, e := range entries {
			_, _, _ = rekor.Signed(e)
		}
	})
}
