package rekor_test

import (
	"testing"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/logtest"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/tlog"
)

// TestV1FindsNothingInAnotherLog: that an entry is absent is believed of the log that was meant
// alone, for the entry is sent next.
func TestV1FindsNothingInAnotherLog(t *testing.T) {
	log, c := newV1(t)
	att := attestation(t, 1)
	for range 2 { // its head is fetched once
		if found, err := c.Find(t.Context(), att, lodge.Intent{}); err != nil || found.Entry != nil {
			t.Fatalf("in an empty log: %+v, %v", found, err)
		}
	}
	if n := log.Requests("GET /api/v1/log") - log.Requests("GET /api/v1/log/"); n != 1 {
		t.Errorf("asked for its head %d times", n)
	}
	other, _ := newV1(t)
	for name, key := range map[string]tlog.Key{"another key": other.Key(), "another origin": otherOrigin(t, log)} {
		c, err := rekor.NewV1(rekor.Options{URL: logtest.URL, HTTP: log.Client(), Keys: []tlog.Key{key}})
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			_, err := c.Find(t.Context(), att, lodge.Intent{})
			wantError(t, err, lodge.ClassHeld, "log-key")
		})
	}
	for name, f := range map[string]struct {
		fault logtest.Fault
		code  string
	}{
		"no JSON":       {logtest.Fault{Path: "GET /api/v1/log", Skip: 1, Status: 200, Body: "<html>"}, "checkpoint-malformed"},
		"no checkpoint": {logtest.Fault{Path: "GET /api/v1/log", Skip: 1, Status: 200, Body: `{"signedTreeHead":"hello"}`}, "checkpoint-malformed"},
		"no answer":     {logtest.Fault{Path: "GET /api/v1/log", Skip: 1, Lose: true}, "no-answer"},
	} {
		t.Run(name, func(t *testing.T) {
			log, c := newV1(t)
			log.Inject(f.fault) // the first request is for the entry
			_, err := c.Find(t.Context(), att, lodge.Intent{})
			wantError(t, err, lodge.ClassRetry, f.code)
			if _, err := c.Find(t.Context(), att, lodge.Intent{}); err != nil {
				t.Errorf("once it works: %v", err)
			}
		})
	}
}

// otherOrigin returns the log's key with an origin that it does not have.
func otherOrigin(t *testing.T, log *logtest.Log) tlog.Key {
	t.Helper()
	public, err := tlog.ParsePublicKey(log.PublicPEM())
	if err != nil {
		t.Fatal(err)
	}
	key, err := tlog.NewV1Key("other.test - 1", public)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
