package node_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/logtest"
	"github.com/lodgehq/lodge/node"
)

// site is a log and a registry behind sockets, and a configuration that names both.
type site struct {
	t      *testing.T
	log    *logtest.Log
	host   string // of the registry
	key    *dsse.PrivateKey
	config node.Config
}

func newSite(t *testing.T) *site {
	t.Helper()
	l, err := logtest.NewV2("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	rekor := httptest.NewServer(l)
	t.Cleanup(rekor.Close)
	images := httptest.NewServer(registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(images.Close)
	key, err := dsse.ParsePrivateKey([]byte(examplePEM))
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	logKey := filepath.Join(folder, "log.pem")
	if err := os.WriteFile(logKey, l.PublicPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	host := strings.TrimPrefix(images.URL, "http://")
	return &site{t: t, log: l, host: host, key: key, config: node.Config{
		Store: "sqlite:" + filepath.Join(folder, "lodge.db"),
		Targets: map[string]node.Target{
			"rekor":  {Log: &node.Log{URL: rekor.URL, Key: logKey}, Settle: node.Duration(time.Second)},
			"images": {OCI: &node.OCI{Repository: host + "/app"}, Requires: []string{"rekor"}},
		},
		Deliver: []string{"images"},
	}}
}

// pushImage puts a manifest there that differs with n.
func (s *site) pushImage(n int) lodge.Digest {
	s.t.Helper()
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[],"annotations":{"n":"%d"}}`, n)
	req, err := http.NewRequest(http.MethodPut, fmt.Sprintf("http://%s/v2/app/manifests/t%d", s.host, n), strings.NewReader(manifest))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != http.StatusCreated {
		s.t.Fatalf("pushing an image: %v, %v", res, err)
	}
	_ = res.Body.Close()
	return lodge.DigestOf([]byte(manifest))
}

// envelope signs a statement about the subjects.
func (s *site) envelope(subjects ...lodge.Digest) []byte {
	s.t.Helper()
	var list []string
	for _, d := range subjects {
		list = append(list, fmt.Sprintf(`{"digest":{"sha256":%q}}`, d.Hex()))
	}
	payload := fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","subject":[%s],"predicateType":"https://example.com/p","predicate":{}}`, strings.Join(list, ","))
	raw, err := dsse.Sign("application/vnd.in-toto+json", []byte(payload), s.key)
	if err != nil {
		s.t.Fatal(err)
	}
	return raw
}

// open opens the node and runs it until the test ends.
func (s *site) open() *node.Node {
	s.t.Helper()
	n, err := node.Open(s.t.Context(), s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	s.t.Cleanup(func() {
		stop()
		if err := errors.Join(<-done, n.Close()); err != nil {
			s.t.Error(err)
		}
	})
	return n
}

func (s *site) push(n *node.Node, sub node.Submission) ([]lodge.Accepted, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	sub.Key = s.key.Public()
	return n.Push(ctx, sub)
}

func (s *site) accept(n *node.Node, envelope []byte) ([]lodge.Accepted, error) {
	return n.Accept(s.t.Context(), node.Submission{Envelope: envelope, Key: s.key.Public()})
}

// signedAnew is envelope with other white space, and so with another signature.
func (s *site) signedAnew(subject lodge.Digest) []byte {
	s.t.Helper()
	payload := fmt.Sprintf(`{"_type": "https://in-toto.io/Statement/v1", "subject": [{"digest": {"sha256": %q}}], "predicateType": "https://example.com/p", "predicate": {}}`, subject.Hex())
	raw, err := dsse.Sign("application/vnd.in-toto+json", []byte(payload), s.key)
	if err != nil {
		s.t.Fatal(err)
	}
	return raw
}

// TestPushSubjects: an envelope goes to the log that its repository requires, and to each
// of its subjects that is there.
func TestPushSubjects(t *testing.T) {
	s := newSite(t)
	n := s.open()
	first, second, absent := s.pushImage(1), s.pushImage(2), lodge.DigestOf([]byte("not there"))
	got, err := s.push(n, node.Submission{Envelope: s.envelope(first, second, absent)})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got[0].Target.Name != "rekor" {
		t.Fatalf("deliveries: %+v", got)
	}
	subjects := map[lodge.Digest]bool{}
	for _, d := range got {
		if d.State != lodge.Verified {
			t.Errorf("to %s: %s, %v", d.Address(), d.State, d.Err)
		}
		subjects[d.Subject] = true
	}
	if !subjects[first] || !subjects[second] || subjects[absent] || s.log.Size() != 1 {
		t.Errorf("attached to %v, %d log entries", subjects, s.log.Size())
	}
	raw, err := n.Bundle(t.Context(), got[0].Key, "", "")
	if err != nil || !strings.Contains(string(raw), `"inclusionProof"`) {
		t.Errorf("bundle: %v, %.200s", err, raw)
	}
}

func TestPushRefuses(t *testing.T) {
	s := newSite(t)
	n := s.open()
	other, err := dsse.ParsePrivateKey([]byte(otherPEM))
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := dsse.Sign("application/vnd.in-toto+json", []byte(`{}`), other)
	if err != nil {
		t.Fatal(err)
	}
	image := s.pushImage(1)
	for name, x := range map[string]struct {
		sub  node.Submission
		want error
		line string
	}{
		"not an envelope":    {node.Submission{Envelope: []byte("{}")}, lodge.ErrMalformed, "malformed"},
		"another key":        {node.Submission{Envelope: foreign}, lodge.ErrSignature, "--key"},
		"no subject":         {node.Submission{Envelope: s.envelope()}, lodge.ErrMalformed, "@sha256:"},
		"no subject there":   {node.Submission{Envelope: s.envelope(lodge.Digest{1}, lodge.Digest{2})}, lodge.ErrNotFound, "push the image first"},
		"no such target":     {node.Submission{Envelope: s.envelope(image), Targets: []string{"nowhere"}}, nil, `"nowhere"`},
		"too many subjects ": {node.Submission{Envelope: s.envelope(many(1001)...)}, lodge.ErrLimit, "1001 subjects"},
	} {
		got, err := s.push(n, x.sub)
		if err == nil || x.want != nil && !errors.Is(err, x.want) || !strings.Contains(err.Error(), x.line) || len(got) > 0 {
			t.Errorf("%s: %v, %v, want an error with %q", name, got, err, x.line)
		}
	}
	if all, err := n.Deliveries(t.Context(), lodge.Digest{}, 0, 10); err != nil || len(all) != 0 {
		t.Errorf("what was refused left %v, %v", all, err)
	}
}

func many(n int) (digests []lodge.Digest) {
	for i := range n {
		digests = append(digests, lodge.DigestOf(fmt.Append(nil, i)))
	}
	return digests
}

func TestPlanSendsNothing(t *testing.T) {
	s := newSite(t)
	n := s.open()
	plans, err := n.Plan(t.Context(), node.Submission{Envelope: s.envelope(s.pushImage(1)), Key: s.key.Public()})
	if err != nil || len(plans) != 2 {
		t.Fatalf("plans: %+v, %v", plans, err)
	}
	if plans[0].Intent.LeafHash.IsZero() || plans[1].Intent.Manifest.IsZero() || plans[0].Err != nil {
		t.Errorf("plans: %+v", plans)
	}
	if all, err := n.Deliveries(t.Context(), lodge.Digest{}, 0, 10); err != nil || len(all) != 0 || s.log.Size() != 0 {
		t.Errorf("a plan left %v, %v and %d entries", all, err, s.log.Size())
	}
}

// TestOpenTriesAgain: a target that was held for its credentials is taken up again by the
// next node, one that lied is not.
func TestOpenTriesAgain(t *testing.T) {
	s := newSite(t)
	image := s.pushImage(1)
	for _, status := range []int{http.StatusUnauthorized, 0} {
		n, err := node.Open(t.Context(), s.config)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- n.Run(ctx) }()
		s.log.Heal()
		if status != 0 {
			s.log.Inject(logtest.Fault{Status: status})
		}
		got, err := s.push(n, node.Submission{Envelope: s.envelope(image)})
		stop()
		if err := errors.Join(err, <-done, n.Close()); err != nil {
			t.Fatal(err)
		}
		if want := status == 0; want != (got[0].State == lodge.Verified) {
			t.Errorf("with HTTP %d: %s, %v", status, got[0].State, got[0].Err)
		}
	}
}

// otherPEM is nobody's here.
const otherPEM = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgLEfg6yUJLDL/tHET
Xioz85vduJn/8CRvCj2i3/LVLC6hRANCAARbazDHhk5MY/JyKb23LEKhvp7vAd1a
7uWNaMK6QS2UM4GdXgXtwiZZI7d9n2HJt2ooSahyTwKKjC2/zQLn9bQE
-----END PRIVATE KEY-----
`

// TestOneLogOneTarget: a log is one target however its URL is written.
func TestOneLogOneTarget(t *testing.T) {
	s := newSite(t)
	image := s.pushImage(1)
	url := s.config.Targets["rekor"].Log.URL
	for i, spelled := range []string{url, url + "/", strings.Replace(url, "http://", "HTTP://", 1)} {
		log := *s.config.Targets["rekor"].Log
		log.URL = spelled
		s.config.Targets["rekor"] = node.Target{Log: &log}
		n, err := node.Open(t.Context(), s.config)
		if err != nil {
			t.Fatal(err)
		}
		got, err := n.Accept(t.Context(), node.Submission{Envelope: s.envelope(image), Key: s.key.Public()})
		if err := errors.Join(err, n.Close()); err != nil {
			t.Fatal(err)
		}
		if got[0].New != (i == 0) {
			t.Errorf("%s: new is %v", spelled, got[0].New)
		}
	}
	s.config.Targets["again"] = s.config.Targets["rekor"]
	if _, err := node.Open(t.Context(), s.config); err == nil || !strings.Contains(err.Error(), "targets again and rekor are both http") {
		t.Errorf("one log under two names: %v", err)
	}
}

// TestAsksKnownRepositories: a node that delivers to the log alone asks the repository
// that the envelope also goes to, though it does not deliver there.
func TestAsksKnownRepositories(t *testing.T) {
	s := newSite(t)
	image := s.pushImage(1)
	first, err := node.Open(t.Context(), s.config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.accept(first, s.envelope(image)); err != nil { // accepted for both, nothing is delivered
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	elsewhere := *s // another store has delivered the same statement under another signature
	elsewhere.config.Store = "sqlite:" + filepath.Join(t.TempDir(), "other.db")
	other, err := s.push(elsewhere.open(), node.Submission{Envelope: s.signedAnew(image)})
	if err != nil || other[0].State != lodge.Verified || other[1].State != lodge.Verified {
		t.Fatalf("%+v, %v", other, err)
	}
	delete(s.config.Targets, "images")
	s.config.Deliver = []string{"rekor"}
	got, err := s.push(s.open(), node.Submission{Envelope: s.envelope(image)})
	if err != nil || got[0].State != lodge.Verified || !got[0].Adopted || s.log.Size() != 1 {
		t.Errorf("%+v, %v; the log has %d entries", got, err, s.log.Size())
	}
}
