package rekor_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/logtest"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/tlog"
)

// TestClassifyStatus is the table of answers of docs/architecture.md, row by row.
func TestClassifyStatus(t *testing.T) {
	for _, c := range []struct {
		status int
		class  lodge.Class
		code   string
	}{
		{425, lodge.ClassRetry, "rate-limited"},
		{429, lodge.ClassRetry, "rate-limited"},

		{408, lodge.ClassUnknown, "timed-out"},
		{499, lodge.ClassUnknown, "timed-out"},
		{500, lodge.ClassUnknown, "server-error"},
		{501, lodge.ClassUnknown, "server-error"},
		{502, lodge.ClassUnknown, "server-error"},
		{503, lodge.ClassUnknown, "server-error"},
		{504, lodge.ClassUnknown, "server-error"},
		{507, lodge.ClassUnknown, "server-error"},
		{599, lodge.ClassUnknown, "server-error"},
		{409, lodge.ClassUnknown, "conflict"}, // until the entry is verified
		{202, lodge.ClassUnknown, "unexpected-status"},
		{204, lodge.ClassUnknown, "unexpected-status"},

		{301, lodge.ClassHeld, "wrong-address"},
		{307, lodge.ClassHeld, "wrong-address"},
		{401, lodge.ClassHeld, "unauthorized"},
		{403, lodge.ClassHeld, "unauthorized"},
		{407, lodge.ClassHeld, "unauthorized"},
		{404, lodge.ClassHeld, "wrong-address"},
		{415, lodge.ClassHeld, "wrong-address"},

		{400, lodge.ClassPermanent, "refused"},
		{402, lodge.ClassPermanent, "refused"},
		{410, lodge.ClassPermanent, "refused"},
		{413, lodge.ClassPermanent, "refused"},
		{422, lodge.ClassPermanent, "refused"},
	} {
		for _, version := range []rekor.Version{rekor.Version1, rekor.Version2} {
			e := rekor.Classify(version, rekor.Answer{Status: c.status, Sent: true})
			if e.Class != c.class || e.Code != c.code {
				t.Errorf("v%d: %d is %s %s, want %s %s", version, c.status, e.Class, e.Code, c.class, c.code)
			}
			if !strings.HasPrefix(e.Message, fmt.Sprintf("HTTP %d", c.status)) {
				t.Errorf("message %q", e.Message)
			}
		}
	}
	for version, class := range map[rekor.Version]lodge.Class{rekor.Version1: lodge.ClassHeld, rekor.Version2: lodge.ClassReroute} {
		if e := rekor.Classify(version, rekor.Answer{Status: 405, Sent: true}); e.Class != class {
			t.Errorf("v%d: 405 is %s, want %s", version, e.Class, class)
		}
	}
}

func TestClassifyTransport(t *testing.T) {
	for _, sent := range []bool{false, true} {
		for _, cause := range []error{io.ErrUnexpectedEOF, syscall.ECONNRESET, context.DeadlineExceeded} {
			class, code := lodge.ClassRetry, "unreachable"
			if sent {
				class, code = lodge.ClassUnknown, "no-answer"
			}
			e := rekor.Classify(rekor.Version2, rekor.Answer{Err: cause, Sent: sent})
			wantError(t, e, class, code)
			if !errors.Is(e, cause) {
				t.Errorf("%v is lost in %v", cause, e)
			}
		}
	}
}

func TestClassifyRetryAfter(t *testing.T) {
	e := rekor.Classify(rekor.Version2, rekor.Answer{Status: 503, Header: http.Header{"Retry-After": {"7"}}, Sent: true})
	if e.RetryAfter != 7*time.Second {
		t.Errorf("it waits %s", e.RetryAfter)
	}
}

func TestClassifyServerWords(t *testing.T) {
	for body, want := range map[string]string{
		"": "HTTP 400",
		`{"code":3,"message":"invalid hashedrekord request","details":[]}`: "HTTP 400: invalid hashedrekord request",
		"This log\nhas been\tfrozen.\n":                                    "HTTP 400: This log has been frozen.",
		"\x1b[31mred\x00\xff":                                              "HTTP 400: [31mred ?",
	} {
		if e := rekor.Classify(rekor.Version2, rekor.Answer{Status: 400, Body: []byte(body)}); e.Message != want {
			t.Errorf("%q: %q, want %q", body, e.Message, want)
		}
	}
	long := rekor.Classify(rekor.Version1, rekor.Answer{Status: 400, Body: []byte(strings.Repeat("ü", 100_000))})
	if n := len([]rune(long.Message)); n > 320 {
		t.Errorf("%d characters", n)
	}
	moved := rekor.Classify(rekor.Version2, rekor.Answer{Status: 308, Header: http.Header{"Location": {"https://new.test/"}}})
	if want := "HTTP 308: redirected to https://new.test/"; moved.Message != want {
		t.Errorf("got %q", moved.Message)
	}
}

func FuzzClassify(f *testing.F) {
	f.Add(400, []byte(`{"message":"no"}`), "5")
	f.Fuzz(func(t *testing.T, status int, body []byte, after string) {
		e := rekor.Classify(rekor.Version2, rekor.Answer{Status: status, Body: body, Header: http.Header{"Retry-After": {after}}, Sent: true})
		if e.Class == "" || e.Code == "" || e.RetryAfter < 0 || e.RetryAfter > 24*time.Hour {
			t.Errorf("%+v", e)
		}
		if strings.ContainsFunc(e.Message, unicode.IsControl) || len([]rune(e.Message)) > 340 {
			t.Errorf("unprintable or long: %q", e.Message)
		}
	})
}

// TestClassifyReal sends through net/http to servers that fail in the ways of the table.
func TestClassifyReal(t *testing.T) {
	log, err := logtest.NewV2("log.test")
	if err != nil {
		t.Fatal(err)
	}
	answering := func(f func(http.ResponseWriter, *http.Request)) string {
		s := httptest.NewServer(http.HandlerFunc(f))
		t.Cleanup(s.Close)
		return s.URL
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := "http://" + closed.Addr().String()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	tlsOnly := httptest.NewUnstartedServer(http.NotFoundHandler())
	tlsOnly.Config.ErrorLog = stdlog.New(io.Discard, "", 0)
	tlsOnly.StartTLS()
	t.Cleanup(tlsOnly.Close)
	redirected := 0
	for name, c := range map[string]struct {
		url   string
		class lodge.Class
		code  string
	}{
		"connection refused": {refusing, lodge.ClassRetry, "unreachable"},
		"unknown host":       {"http://nowhere.invalid", lodge.ClassRetry, "unreachable"},
		"untrusted TLS":      {tlsOnly.URL, lodge.ClassRetry, "unreachable"},
		"no answer": {answering(func(http.ResponseWriter, *http.Request) {
			panic(http.ErrAbortHandler)
		}), lodge.ClassUnknown, "no-answer"},
		"half an answer": {answering(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(http.StatusCreated)
			panic(http.ErrAbortHandler)
		}), lodge.ClassUnknown, "no-answer"},
		"an endless answer": {answering(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusCreated)
			for range 9 << 4 {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}), lodge.ClassUnknown, "no-answer"},
		"another answer": {answering(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, "<html>")
		}), lodge.ClassUnknown, "answer-unreadable"},
		"a redirection": {answering(func(w http.ResponseWriter, r *http.Request) {
			redirected++
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}), lodge.ClassHeld, "wrong-address"},
	} {
		t.Run(name, func(t *testing.T) {
			c2, err := rekor.NewV2(rekor.Options{URL: c.url, HTTP: &http.Client{Transport: &http.Transport{}}, Keys: []tlog.Key{log.Key()}, Leaves: &leaves{}})
			if err != nil {
				t.Fatal(err)
			}
			att := attestation(t, 1)
			intent, err := c2.Plan(att)
			if err != nil {
				t.Fatal(err)
			}
			_, err = c2.Send(t.Context(), att, intent)
			wantError(t, err, c.class, c.code)
		})
	}
	if redirected != 1 {
		t.Errorf("a redirected submission was sent %d times", redirected)
	}
}

// TestClassifyOwnTransport checks what is told from the error alone, where a transport calls
// no hook: what cannot be told is unknown.
func TestClassifyOwnTransport(t *testing.T) {
	log, _, _ := newV2(t)
	for _, c := range []struct {
		cause error
		class lodge.Class
	}{
		{&net.DNSError{Err: "no such host"}, lodge.ClassRetry},
		{&net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}, lodge.ClassRetry},
		{fmt.Errorf("proxy: %w", syscall.ECONNREFUSED), lodge.ClassRetry},
		{x509.UnknownAuthorityError{}, lodge.ClassRetry},
		{tls.RecordHeaderError{Conn: &net.TCPConn{}}, lodge.ClassRetry}, // of the handshake
		{tls.RecordHeaderError{}, lodge.ClassUnknown},
		{tls.RecordHeaderError{RecordHeader: [5]byte([]byte("HTTP/"))}, lodge.ClassUnknown}, // net/http makes another one of it
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, lodge.ClassUnknown},
		{io.EOF, lodge.ClassUnknown},
		{context.DeadlineExceeded, lodge.ClassUnknown},
	} {
		client := &http.Client{Transport: failing{c.cause}}
		c2, err := rekor.NewV2(rekor.Options{URL: logtest.URL, HTTP: client, Keys: []tlog.Key{log.Key()}, Leaves: &leaves{}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c2.Send(t.Context(), attestation(t, 1), lodge.Intent{})
		if e := lodge.Classify(err); e.Class != c.class {
			t.Errorf("%v is %s, want %s", c.cause, e.Class, c.class)
		}
	}
}

type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }
