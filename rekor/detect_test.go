package rekor_test

import (
	"net/http"
	"testing"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/logtest"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/tlog"
)

func TestDetect(t *testing.T) {
	v1, _ := newV1(t)
	v2, _, _ := newV2(t)
	for _, c := range []struct {
		name    string
		log     *logtest.Log
		readURL string
		faults  []logtest.Fault
		want    rekor.Version
		class   lodge.Class
		code    string
	}{
		{"v1", v1, "", nil, rekor.Version1, "", ""},
		{"v2", v2, "", nil, rekor.Version2, "", ""},
		{"told", v2, "http://tiles.test", nil, rekor.Version2, "", ""},
		{"v2 without read side", v2, "", []logtest.Fault{{Path: "checkpoint", Status: 501}}, rekor.Version2, "", ""},
		{"v1 behind a slow proxy", v1, "", []logtest.Fault{{Path: "checkpoint", Status: 502}}, rekor.Version1, "", ""},
		{"refused", v1, "", []logtest.Fault{{Path: "GET ", Refuse: true, Count: -1}}, 0, lodge.ClassRetry, "unreachable"},
		{"down", v2, "", []logtest.Fault{{Path: "GET ", Status: 503, Count: -1}}, 0, lodge.ClassRetry, "server-error"},
		{"v2 down", v2, "", []logtest.Fault{{Path: "checkpoint", Lose: true}}, 0, lodge.ClassRetry, "no-answer"},
		{"v2 busy", v2, "", []logtest.Fault{{Path: "checkpoint", Status: 429}}, 0, lodge.ClassRetry, "rate-limited"},
		{"v2 gave up", v2, "", []logtest.Fault{{Path: "checkpoint", Status: 499}}, 0, lodge.ClassRetry, "timed-out"},
		{"v1 down", v1, "", []logtest.Fault{{Path: "/api/v1/log", Lose: true}}, 0, lodge.ClassRetry, "no-answer"},
		{"web site", v1, "", []logtest.Fault{{Path: "GET ", Status: 200, Body: "<html>", Count: -1}}, 0, lodge.ClassHeld, "not-a-log"},
		{"nothing there", v1, "", []logtest.Fault{{Path: "GET ", Status: 404, Count: -1}}, 0, lodge.ClassHeld, "not-a-log"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.log.Heal()
			for _, f := range c.faults {
				c.log.Inject(f)
			}
			got, err := rekor.Detect(t.Context(), c.log.Client(), logtest.URL+"/", c.readURL)
			if got != c.want {
				t.Errorf("got version %d, want %d", got, c.want)
			}
			if c.code == "" && err != nil {
				t.Error(err)
			}
			if c.code != "" {
				wantError(t, err, c.class, c.code)
			}
		})
	}
}

func TestOptionsRefused(t *testing.T) {
	log, _, _ := newV2(t)
	keys := []tlog.Key{log.Key()}
	for _, o := range []rekor.Options{
		{URL: logtest.URL, Leaves: &leaves{}},
		{URL: logtest.URL, Keys: keys},
		{URL: "log.test", Keys: keys, Leaves: &leaves{}},
		{URL: "ftp://log.test", Keys: keys, Leaves: &leaves{}},
		{URL: "http://log.test?x=1", Keys: keys, Leaves: &leaves{}},
		{URL: logtest.URL, ReadURL: "tiles", Keys: keys, Leaves: &leaves{}},
	} {
		if _, err := rekor.NewV2(o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
	for _, o := range []rekor.Options{{URL: logtest.URL}, {URL: "", Keys: keys}} {
		if _, err := rekor.NewV1(o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
	if _, err := rekor.Detect(t.Context(), http.DefaultClient, "log.test", ""); err == nil {
		t.Error("an address without scheme is asked")
	}
}

// FuzzAnswer lets a log answer anything with any status: nothing becomes an entry.
func FuzzAnswer(f *testing.F) {
	f.Add(201, []byte(`{"logIndex":"0","inclusionProof":{"logIndex":"0","rootHash":"","treeSize":"1","hashes":[],"checkpoint":{"envelope":""}},"canonicalizedBody":""}`), "0")
	f.Add(409, []byte(`{"code":6}`), "0")
	v1, c1 := newV1(f)
	v2, c2, _ := newV2(f)
	v2.Append(body(0))
	att := attestation(f, 1)
	f.Fuzz(func(t *testing.T, status int, raw []byte, index string) {
		status = 200 + (status%400+400)%400
		header := http.Header{"X-Log-Index": {index}, "Location": {"/" + index}}
		v1.Inject(logtest.Fault{Status: status, Body: string(raw), Header: header})
		v2.Inject(logtest.Fault{Status: status, Body: string(raw), Header: header})
		if e, err := c2.Send(t.Context(), att, lodge.Intent{}); e != nil || err == nil {
			t.Errorf("v2: %+v, %v", e, err)
		}
		e, err := c1.Send(t.Context(), att, lodge.Intent{})
		if err == nil && (status != http.StatusConflict || e.Receipt.InclusionProof != nil) {
			t.Errorf("v1: %+v, %v", e, err)
		}
	})
}

// FuzzAdopt lets a bundle bring any entry body: none is adopted without proof, and reading it
// never fails in another way.
func FuzzAdopt(f *testing.F) {
	log, c, _ := newV2(f)
	att := attestation(f, 1)
	e, err := c.Send(f.Context(), att, lodge.Intent{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(e.Body)
	f.Add([]byte(`{"apiVersion":"0.0.2","kind":"intoto","spec":{"content":{"envelope":{"signatures":[{"sig":"AA=="}]}}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		x := *e
		x.Body = raw
		with := *att
		with.Entries = []lodge.Entry{x}
		got, err := c.Adopt(t.Context(), &with)
		if (err == nil) != (string(raw) == string(e.Body)) || (err == nil) != (got != nil) {
			t.Errorf("%q: %+v, %v (log of %d)", raw, got, err, log.Size())
		}
	})
}
