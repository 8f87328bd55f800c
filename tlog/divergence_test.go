package tlog_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/logtest"
	"github.com/lodgehq/lodge/tlog"
)

// head opens the newest checkpoint of a log.
func opened(t *testing.T, log *logtest.Log) tlog.Checkpoint {
	t.Helper()
	cp, err := log.Key().Open([]byte(log.Checkpoint()))
	if err != nil {
		t.Fatal(err)
	}
	return cp
}

// inclusion proves the leaf at index in the tree of the newest checkpoint.
func inclusion(t *testing.T, log *logtest.Log, index int64) (lodge.Digest, lodge.InclusionProof) {
	t.Helper()
	tiles := tlog.NewTiles(fetcher{log})
	cp := opened(t, log)
	p, err := tiles.Inclusion(t.Context(), cp, index)
	if err != nil {
		t.Fatal(err)
	}
	leaves, err := tiles.Leaves(t.Context(), cp, index, index+1)
	if err != nil {
		t.Fatal(err)
	}
	return leaves[0], p
}

// TestDivergence forks a log at every size and proves it from every pair of sizes.
func TestDivergence(t *testing.T) {
	const most = 20
	for at := range int64(most) {
		for more := int64(1); more < most; more++ {
			log, err := logtest.NewV2("log.test")
			if err != nil {
				t.Fatal(err)
			}
			for i := range at {
				log.Append(fmt.Append(nil, i))
			}
			before := opened(t, log)
			fork := log.Fork(at)
			log.Append([]byte("one"))
			older := opened(t, log)
			for i := range more {
				fork.Append(fmt.Append(nil, "another ", i))
			}
			newer := opened(t, fork)
			leaf, p := inclusion(t, fork, older.Size-1)
			d, err := tlog.Diverge(older, newer, leaf, p)
			if err != nil {
				t.Fatalf("forked at %d, %d more: %v", at, more, err)
			}
			checkDivergence(t, log.Key(), d)
			if at == 0 {
				continue
			}
			leaf, p = inclusion(t, fork, at-1)
			if _, err := tlog.Diverge(before, newer, leaf, p); !errors.Is(err, lodge.ErrNotFound) {
				t.Errorf("a log that grew from %d to %d has diverged: %v", at, newer.Size, err)
			}
		}
	}
}

// checkDivergence judges d after it went through its JSON form, and that no change of a
// byte of a hash leaves it valid.
func checkDivergence(t *testing.T, key tlog.Key, d tlog.Divergence) {
	t.Helper()
	raw, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := tlog.ParseDivergence(raw)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := parsed.Check(key); err != nil {
		t.Errorf("%s: %v", raw, err)
	}
	for i := range parsed.Hashes {
		parsed.Hashes[i][0] ^= 1
		if _, _, err := parsed.Check(key); err == nil {
			t.Error("a changed proof proves")
		}
		parsed.Hashes[i][0] ^= 1
	}
	other, err := logtest.NewV2("log.test")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := parsed.Check(other.Key()); !errors.Is(err, lodge.ErrSignature) {
		t.Errorf("judged with another key: %v", err)
	}
}

func TestParseDivergence(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "no object": "[]", "another type": `{"mediaType":"x","older":"","newer":""}`,
		"another member": `{"mediaType":"` + tlog.DivergenceType + `","older":"","newer":"","more":1}`,
		"two":            strings.Repeat(`{"mediaType":"`+tlog.DivergenceType+`","older":"","newer":""}`, 2),
		"a brace more":   `{"mediaType":"` + tlog.DivergenceType + `","older":"","newer":""}}`,
		"too large":      strings.Repeat(" ", 1<<20),
	} {
		if _, err := tlog.ParseDivergence([]byte(text)); !errors.Is(err, lodge.ErrMalformed) && !errors.Is(err, lodge.ErrLimit) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseDivergence(f *testing.F) {
	log, err := logtest.NewV2("log.test")
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"mediaType":"` + tlog.DivergenceType + `","older":"a\n1\n\n","newer":""}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := tlog.ParseDivergence(raw)
		if err != nil {
			return
		}
		if _, _, err := d.Check(log.Key()); err == nil {
			t.Errorf("proves something: %q", raw)
		}
	})
}
