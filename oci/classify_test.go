package oci_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/oci"
)

// settle is long enough for another writer on a busy machine.
const settle = 500 * time.Millisecond

// answer writes an error of the distribution specification.
func answer(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"the server's words"}]}`, code)
}

// TestClassify has every row of the answer table, at the request that it is about.
func TestClassify(t *testing.T) {
	const manifest, upload, subject, tag = "PUT manifests/sha256:", "POST blobs/uploads/", "HEAD manifests/sha256:", "PUT manifests/lodge-"
	for _, tt := range []struct {
		at     string
		status int
		code   string
		class  lodge.Class
		want   string
	}{
		{manifest, 400, "MANIFEST_BLOB_UNKNOWN", lodge.ClassRetry, "blob-missing"},
		{manifest, 404, "BLOB_UNKNOWN", lodge.ClassRetry, "blob-missing"},
		{manifest, 400, "DIGEST_INVALID", lodge.ClassRetry, "blob-missing"},
		{manifest, 400, "MANIFEST_INVALID", lodge.ClassPermanent, "400"},
		{manifest, 401, "UNAUTHORIZED", lodge.ClassHeld, "unauthorized"},
		{manifest, 403, "DENIED", lodge.ClassHeld, "unauthorized"},
		{manifest, 404, "NAME_UNKNOWN", lodge.ClassRetry, "missing"},
		{manifest, 405, "UNSUPPORTED", lodge.ClassHeld, "refused"},
		{manifest, 408, "", lodge.ClassUnknown, "408"},
		{manifest, 413, "SIZE_INVALID", lodge.ClassRetry, "blob-missing"},
		{manifest, 413, "", lodge.ClassPermanent, "too-large"},
		{manifest, 415, "", lodge.ClassHeld, "refused"},
		{manifest, 422, "", lodge.ClassPermanent, "422"},
		{manifest, 425, "", lodge.ClassRetry, "busy"},
		{manifest, 429, "TOOMANYREQUESTS", lodge.ClassRetry, "busy"},
		{manifest, 499, "", lodge.ClassUnknown, "499"},
		{manifest, 500, "UNKNOWN", lodge.ClassUnknown, "500"},
		{manifest, 502, "", lodge.ClassUnknown, "502"},
		{manifest, 503, "UNAVAILABLE", lodge.ClassUnknown, "503"},
		{upload, 404, "BLOB_UPLOAD_UNKNOWN", lodge.ClassRetry, "blob-missing"},
		{upload, 404, "", lodge.ClassRetry, "missing"},
		{upload, 403, "DENIED", lodge.ClassHeld, "unauthorized"},
		{upload, 503, "", lodge.ClassRetry, "503"},
		{subject, 500, "", lodge.ClassRetry, "500"},
		{subject, 404, "", lodge.ClassPermanent, "subject-missing"},
		{subject, 401, "", lodge.ClassHeld, "unauthorized"},
		{tag, 500, "", lodge.ClassUnknown, "500"},
		{tag, 429, "", lodge.ClassUnknown, "busy"},
	} {
		t.Run(fmt.Sprintf("%s %d %s", tt.at, tt.status, tt.code), func(t *testing.T) {
			s := newServer(t, true)
			method, path, _ := strings.Cut(tt.at, " ")
			s.hook(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != method || !strings.HasPrefix(r.URL.Path, "/v2/app/"+path) {
					return false
				}
				w.Header().Set("Retry-After", "7")
				answer(w, tt.status, tt.code)
				return true
			})
			_, err := publish(t.Context(), s.open(oci.Options{}), s.attestation(1), s.image)
			e := lodge.Classify(err)
			if e == nil || e.Class != tt.class || e.Code != tt.want {
				t.Fatalf("error %#v; want class %s, code %s", e, tt.class, tt.want)
			}
			if strings.Contains(e.Message, "\n") || !strings.Contains(e.Message, s.host+"/app") {
				t.Errorf("not one line that names the repository: %q", e.Message)
			}
			if busy := slices.Contains([]int{408, 425, 429}, tt.status) || tt.status >= 499; busy != (e.RetryAfter == 7*time.Second) {
				t.Errorf("retry after %s", e.RetryAfter)
			}
			if tt.want == "unauthorized" && !strings.Contains(e.Message, "docker login "+s.host) {
				t.Errorf("it does not say what to do: %q", e.Message)
			}
		})
	}
}

func TestClassifyUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{address, "registry.invalid"} {
		r, err := oci.New(host+"/app", oci.Options{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.Subjects(t.Context(), []lodge.Digest{lodge.DigestOf(nil)})
		if e := lodge.Classify(err); e == nil || e.Class != lodge.ClassRetry || e.Code != "unreachable" {
			t.Errorf("%s: error %#v", host, e)
		}
	}
}

// towards connects to one address whatever host is asked for, and believes whoever answers.
func towards(t *testing.T, address string) *http.Transport {
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// TestClassifyBrokenTLS: what is no TLS in the place of an answer says nothing about the request,
// though net/http gives it the same error as to a server that speaks no TLS at all.
func TestClassifyBrokenTLS(t *testing.T) {
	s := newServer(t, true)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: s.host})
	front := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/manifests/") {
			proxy.ServeHTTP(w, r)
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		if encrypted, ok := conn.(*tls.Conn); ok {
			_, _ = encrypted.NetConn().Write([]byte("HTTP/1.1 504 Gateway Timeout\r\n\r\n"))
		}
		_ = conn.Close()
	}))
	defer front.Close()
	r, err := oci.New("registry.test/app", oci.Options{Transport: towards(t, front.Listener.Addr().String())})
	if err != nil {
		t.Fatal(err)
	}
	_, err = publish(t.Context(), r, s.attestation(1), s.image)
	if e := lodge.Classify(err); e == nil || e.Class != lodge.ClassUnknown || e.Code != "network" || !errors.Is(err, http.ErrSchemeMismatch) {
		t.Errorf("error %#v", err)
	}
}

// refusing applies the writes that it is asked to refuse.
type refusing struct {
	path   string // begins so
	status int
	blind  bool // nothing can be read there afterwards
	done   *atomic.Bool
}

func (f refusing) RoundTrip(r *http.Request) (*http.Response, error) {
	here := strings.HasPrefix(r.URL.Path, "/v2/app/manifests/"+f.path)
	if here && f.blind && f.done.Load() && r.Method != http.MethodPut {
		return &http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || !here || r.Method != http.MethodPut || f.done.Swap(true) {
		return res, err
	}
	return &http.Response{StatusCode: f.status, Header: http.Header{}, Body: res.Body, Request: r}, nil
}

// TestRefusedAndApplied: a refusal for good of what was applied all the same is no end of it: what
// can be seen counts, and where nothing can be seen, nothing is known.
func TestRefusedAndApplied(t *testing.T) {
	for _, name := range []string{"manifest", "index"} {
		for _, blind := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, blind %v", name, blind), func(t *testing.T) {
				s := newServer(t, false)
				att := s.attestation(1)
				r := s.open(oci.Options{})
				intent, err := r.Plan(t.Context(), att, s.image)
				if err != nil {
					t.Fatal(err)
				}
				path := "sha256-"
				if name == "manifest" {
					path = intent.Manifest.String()
				}
				r = s.open(oci.Options{Transport: refusing{path, http.StatusUnprocessableEntity, blind, new(atomic.Bool)}})
				receipt, err := r.Send(t.Context(), att.Key, att.Signer, s.image, intent)
				if blind {
					if e := lodge.Classify(err); e == nil || e.Class != lodge.ClassUnknown {
						t.Errorf("error %#v", err)
					}
					return
				}
				if got := s.referrers(); err != nil || !slices.Equal(got, []string{receipt.Digest.String()}) {
					t.Errorf("referrers %q, %v", got, err)
				}
			})
		}
	}
}

// TestClassifyRedirected: a manifest has left when the registry sends it elsewhere, whatever becomes of
// it there.
func TestClassifyRedirected(t *testing.T) {
	for _, status := range []int{303, 307} {
		s := newServer(t, true)
		s.hook(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/manifests/") {
				return false
			}
			http.Redirect(w, r, "http://127.0.0.1:1/", status)
			return true
		})
		_, err := publish(t.Context(), s.open(oci.Options{}), s.attestation(1), s.image)
		if e := lodge.Classify(err); e == nil || e.Class != lodge.ClassUnknown {
			t.Errorf("HTTP %d: error %#v", status, err)
		}
	}
}

// TestClassifyPlainHTTP: that a registry speaks no TLS is said in the words that help.
func TestClassifyPlainHTTP(t *testing.T) {
	s := newServer(t, true)
	r, err := oci.New("registry.test/app", oci.Options{Transport: towards(t, s.host)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Subjects(t.Context(), []lodge.Digest{s.image})
	if e := lodge.Classify(err); e == nil || e.Class != lodge.ClassRetry || e.Code != "unreachable" || !errors.Is(err, http.ErrSchemeMismatch) {
		t.Errorf("error %#v", err)
	}
}

// TestImmutableTags: a registry that refuses the key tag has the artifact all the same.
func TestImmutableTags(t *testing.T) {
	for _, status := range []int{400, 403, 405, 409, 412, 422} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			s := newServer(t, true)
			s.hook(func(w http.ResponseWriter, r *http.Request) bool {
				refused := r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/lodge-")
				if refused {
					answer(w, status, "DENIED")
				}
				return refused
			})
			receipt, err := publish(t.Context(), s.open(oci.Options{}), s.attestation(1), s.image)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.referrers(); !slices.Equal(got, []string{receipt.Digest.String()}) {
				t.Errorf("referrers %q", got)
			}
		})
	}
}

// TestUnlisted: a registry that takes the artifact and never lists it is not believed.
func TestUnlisted(t *testing.T) {
	s := newServer(t, true)
	s.hook(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/referrers/") {
			return false
		}
		w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		_, _ = w.Write([]byte(`{"schemaVersion":2,"manifests":[]}`))
		return true
	})
	_, err := publish(t.Context(), s.open(oci.Options{}), s.attestation(1), s.image)
	if e := lodge.Classify(err); e == nil || e.Class != lodge.ClassUnknown || e.Code != "unlisted" {
		t.Errorf("error %v", err)
	}
}

// TestCredentials: they come from the docker configuration as it is when they are needed.
func TestCredentials(t *testing.T) {
	s := newServer(t, true)
	basic := base64.StdEncoding.EncodeToString([]byte("user:secret"))
	s.hook(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == "Basic "+basic {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		answer(w, http.StatusUnauthorized, "UNAUTHORIZED")
		return true
	})
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	r := s.open(oci.Options{})
	login := func(config string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, config := range []string{"", "{}", `{"auths":{"` + s.host + `":{"auth":"d3Jvbmc6d3Jvbmc="}}}`, `{"auths":`} {
		if config != "" {
			login(config)
		}
		_, err := publish(t.Context(), r, s.attestation(1), s.image)
		e := lodge.Classify(err)
		if e == nil || e.Class != lodge.ClassHeld || e.Code != "unauthorized" || strings.Contains(e.Message, "\n") {
			t.Fatalf("with the configuration %q: error %#v", config, e)
		}
	}
	login(`{"auths":{"` + s.host + `":{"auth":"` + basic + `"}}}`)
	if _, err := publish(t.Context(), r, s.attestation(1), s.image); err != nil {
		t.Errorf("after login: %v", err)
	}
}
