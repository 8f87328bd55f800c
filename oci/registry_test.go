package oci_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/oci"
)

const manifestType = "application/vnd.oci.image.manifest.v1+json"

// kinds are the two kinds of registry there are.
var kinds = map[string]bool{"referrers API": true, "referrers index": false}

// server is a registry with one image in it.
type server struct {
	t       *testing.T
	host    string
	image   lodge.Digest
	mu      sync.Mutex
	before  func(w http.ResponseWriter, r *http.Request) bool // answers itself where it returns true
	written []string                                          // "METHOD path" of every request that writes
}

func newServer(t *testing.T, referrers bool) *server {
	t.Helper()
	s := &server{t: t}
	handler := registry.New(registry.WithReferrersSupport(referrers), registry.Logger(log.New(io.Discard, "", 0)))
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		before := s.before
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			s.written = append(s.written, r.Method+" "+r.URL.Path)
		}
		s.mu.Unlock()
		if before == nil || !before(w, r) {
			handler.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(web.Close)
	s.host = strings.TrimPrefix(web.URL, "http://")
	s.image = s.put("manifests/latest", manifestType,
		[]byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.empty.v1+json",`+
			`"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}`))
	s.written = nil
	return s
}

// hook has before see every request from now on.
func (s *server) hook(before func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = before
}

func (s *server) writes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written
}

func (s *server) do(method, path, contentType string, body []byte) (status int, answer []byte) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.host+"/v2/app/"+path, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if answer, err = io.ReadAll(resp.Body); err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, answer
}

func (s *server) put(path, contentType string, body []byte) lodge.Digest {
	s.t.Helper()
	if status, answer := s.do(http.MethodPut, path, contentType, body); status != http.StatusCreated {
		s.t.Fatalf("PUT %s: %d %s", path, status, answer)
	}
	return lodge.DigestOf(body)
}

// get returns the manifest under a tag or digest, nil where there is none.
func (s *server) get(reference string) []byte {
	s.t.Helper()
	status, body := s.do(http.MethodGet, "manifests/"+reference, "", nil)
	if status == http.StatusNotFound {
		return nil
	}
	return body
}

func (s *server) drop(reference string) {
	s.t.Helper()
	if status, answer := s.do(http.MethodDelete, "manifests/"+reference, "", nil); status != http.StatusAccepted {
		s.t.Fatalf("DELETE %s: %d %s", reference, status, answer)
	}
}

// referrers returns the digests of what a client without this package sees as attached.
func (s *server) referrers() []string {
	s.t.Helper()
	status, body := s.do(http.MethodGet, "referrers/"+s.image.String(), "", nil)
	if status == http.StatusNotFound {
		body = s.get("sha256-" + s.image.Hex())
	}
	if body == nil {
		return nil
	}
	var index struct{ Manifests []struct{ Digest string } }
	if err := json.Unmarshal(body, &index); err != nil {
		s.t.Fatal(err)
	}
	seen := make(map[string]bool)
	var digests []string
	for _, m := range index.Manifests {
		if !seen[m.Digest] {
			digests = append(digests, m.Digest) // the in-process registry lists a tagged manifest twice
		}
		seen[m.Digest] = true
	}
	return digests
}

func (s *server) open(o oci.Options) *oci.Repository {
	s.t.Helper()
	if o.Settle == 0 {
		o.Settle = time.Millisecond
	}
	r, err := oci.New(s.host+"/app", o)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// attestation returns a signed statement about the image.
func (s *server) attestation(n int) *bundle.Attestation {
	s.t.Helper()
	return attestation(s.t, s.image, n)
}

const signer lodge.Signer = "sha256:0000000000000000000000000000000000000000000000000000000000000001"

func attestation(t *testing.T, image lodge.Digest, n int) *bundle.Attestation {
	t.Helper()
	const payloadType = "application/vnd.in-toto+json"
	payload := fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":%q}}],`+
		`"predicateType":"https://openvex.dev/ns/v0.2.0","predicate":{"n":%d}}`, image.Hex(), n)
	return &bundle.Attestation{
		Key:         dsse.Key(payloadType, payload),
		Signer:      signer,
		PayloadType: payloadType,
		Payload:     payload,
		Signature:   []byte("a signature"),
		PublicKey:   &dsse.PublicKey{SPKI: []byte("a key")},
		Statement:   bundle.ParseStatement(payloadType, payload),
	}
}

// publish plans and sends.
func publish(ctx context.Context, r *oci.Repository, att *bundle.Attestation, subject lodge.Digest) (lodge.OCIReceipt, error) {
	intent, err := r.Plan(ctx, att, subject)
	if err != nil {
		return lodge.OCIReceipt{}, err
	}
	return r.Send(ctx, att.Key, att.Signer, subject, intent)
}

// faults is a transport that does something wrong with the nth request that writes.
type faults struct {
	nth  int
	kind fault
	mu   sync.Mutex
	seen int
}

type fault string

const (
	lostBefore fault = "connection lost before it was applied"
	lostAfter  fault = "connection lost after it was applied"
	busyBefore fault = "503 before it was applied"
	busyAfter  fault = "503 after it was applied"
)

var errLost = errors.New("connection reset by peer")

func (f *faults) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method == http.MethodGet || req.Method == http.MethodHead {
		return http.DefaultTransport.RoundTrip(req)
	}
	f.mu.Lock()
	f.seen++
	hit := f.seen == f.nth
	f.mu.Unlock()
	if !hit {
		return http.DefaultTransport.RoundTrip(req)
	}
	if f.kind == lostAfter || f.kind == busyAfter {
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	if f.kind == lostBefore || f.kind == lostAfter {
		return nil, errLost
	}
	return &http.Response{
		StatusCode: http.StatusServiceUnavailable, Header: http.Header{}, Request: req,
		Body: io.NopCloser(strings.NewReader("try later")), ProtoMajor: 1, ProtoMinor: 1,
	}, nil
}
