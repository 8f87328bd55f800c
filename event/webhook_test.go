package event_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/event"
)

const (
	secretOne = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	secretTwo = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
)

func webhook(t *testing.T, address, secrets string) *event.Webhook {
	t.Helper()
	w, err := event.NewWebhook(address, []byte(secrets))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

var something = lodge.QueuedEvent(lodge.Delivery{Key: lodge.Digest{1}, Signer: "me", Target: target}, time.Unix(1, 0))

// TestWebhookSignature verifies a request with the reference library, and by hand.
func TestWebhookSignature(t *testing.T) {
	var failed error
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		failed = errors.Join(failed, verifyRequest(r))
	}))
	defer server.Close()
	if err := webhook(t, server.URL+"/hook?token=1", secretOne+"\n"+secretTwo+"\n").Post(t.Context(), something); err != nil || failed != nil {
		t.Error(err, failed)
	}
}

func verifyRequest(r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	for _, secret := range []string{secretOne, secretTwo} {
		wh, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			return err
		}
		if err := wh.Verify(body, r.Header); err != nil {
			return err
		}
		if wh.Verify(append(body, ' '), r.Header) == nil {
			return errors.New("other bytes have the same signature")
		}
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secretOne, "whsec_"))
	if err != nil {
		return err
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), body)
	if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); !strings.HasPrefix(r.Header.Get("webhook-signature"), want+" ") {
		return fmt.Errorf("signature %s, want %s first", r.Header.Get("webhook-signature"), want)
	}
	e, _, err := parse(body)
	if err == nil && (r.Method != http.MethodPost || r.URL.RawQuery != "token=1" || e.ID != r.Header.Get("webhook-id") ||
		r.Header.Get("Content-Type") != "application/cloudevents+json") {
		err = fmt.Errorf("%s %s %v", r.Method, r.URL, r.Header)
	}
	return err
}

// TestWebhookAnswers: what each answer means.
func TestWebhookAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		header string // Retry-After, or Location
		class  lodge.Class
		after  time.Duration
		words  string
	}{
		"200":         {status: 200},
		"204":         {status: 204},
		"410":         {status: 410, class: lodge.ClassHeld, words: "wants no more"},
		"429":         {status: 429, header: "120", class: lodge.ClassRetry, after: 2 * time.Minute, words: "HTTP 429 the words"},
		"503":         {status: 503, header: time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), class: lodge.ClassRetry, after: time.Hour},
		"500":         {status: 500, header: "soon", class: lodge.ClassRetry, words: "HTTP 500 the words"},
		"404":         {status: 404, class: lodge.ClassRetry},
		"a redirect":  {status: 308, header: "/elsewhere", class: lodge.ClassRetry, words: "redirects are not followed"},
		"a long wait": {status: 429, header: "99999999999", class: lodge.ClassRetry},
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				requests.Add(1)
				w.Header().Set("Retry-After", c.header)
				w.Header().Set("Location", c.header)
				w.WriteHeader(c.status)
				if c.status != http.StatusNoContent {
					_, _ = io.WriteString(w, "the\nwords \xff"+strings.Repeat(" and more", 1000))
				}
			}))
			defer server.Close()
			err := webhook(t, server.URL, secretOne).Post(t.Context(), something)
			if c.class == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			e := lodge.Classify(err)
			if e == nil || e.Class != c.class || (e.RetryAfter-c.after).Abs() > time.Minute || !strings.Contains(e.Message, c.words) || len(e.Message) > 700 ||
				requests.Load() != 1 {
				t.Errorf("%#v, %d requests", e, requests.Load())
			}
		})
	}
}

// TestWebhookUnreachable: errors say why, and do not show what may be secret in the URL.
func TestWebhookUnreachable(t *testing.T) {
	stalled := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // else the server does not see that the client is gone
		<-r.Context().Done()
	}))
	defer stalled.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for _, address := range []string{stalled.URL + "/secret", "http://127.0.0.1:1/secret"} {
		err := webhook(t, address, secretOne).Post(ctx, something)
		if e := lodge.Classify(err); e == nil || e.Class != lodge.ClassRetry || strings.Contains(e.Message, "secret") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// TestWebhookNames: a name does not lead to this machine, its number does.
func TestWebhookNames(t *testing.T) {
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	defer server.Close()
	port := server.URL[strings.LastIndex(server.URL, ":"):]
	if err := webhook(t, "http://localhost"+port, secretOne).Post(t.Context(), something); err != nil {
		t.Error(err)
	}
	for address, refused := range map[string]bool{
		"127.0.0.1:443": true, "[::1]:443": true, "[::ffff:127.8.8.8]:443": true, "0.0.0.0:443": true, "169.254.169.254:80": true, "[fe80::1%eth0]:80": true,
		"10.1.2.3:443": false, "[2001:db8::1]:443": false,
	} {
		if err := event.Guard("hooks.example", address); (err != nil) != refused {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestNewWebhookRefuses(t *testing.T) {
	for _, c := range []struct{ address, secrets string }{
		{"ftp://hooks.example", secretOne},
		{"https://", secretOne},
		{"https://bücher.example", secretOne},
		{"hooks.example", secretOne},
		{"https://hooks.example", ""},
		{"https://hooks.example", "secret"},
		{"https://hooks.example", "whsec_c2hvcnQ="},
		{"https://hooks.example", "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 65))},
		{"https://hooks.example", strings.Repeat(secretOne+" ", 5)},
	} {
		if _, err := event.NewWebhook(c.address, []byte(c.secrets)); err == nil || strings.Contains(err.Error(), "c2hvcnQ") {
			t.Errorf("%q, %q: %v", c.address, c.secrets, err)
		}
	}
}
