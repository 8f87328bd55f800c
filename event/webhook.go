package event

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/lodgehq/lodge"
)

// Webhook is a poster that sends events as Standard Webhooks, each as a CloudEvent in
// structured mode. The event's id is the message's id, so a repeat has the same.
type Webhook struct {
	url     string
	secrets [][]byte
	client  *http.Client
}

const (
	postTime   = 30 * time.Second // for connection, request and answer
	maxEvent   = 4 << 20          // bytes of a request
	maxWords   = 500              // bytes of an answer that an error shows
	maxSecrets = 4
)

// NewWebhook returns a poster to a URL. secrets holds one or more of the form whsec_…, with
// white space between them; an event carries a signature with each, so that the receiver
// can go from one to the next.
func NewWebhook(address string, secrets []byte) (*Webhook, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("url: want http:// or https://, with a host") // the error would show a password
	}
	if host := u.Hostname(); strings.ContainsFunc(host, func(r rune) bool { return r > unicode.MaxASCII }) {
		return nil, fmt.Errorf("url: write the host %q as it is in the DNS (xn--…)", host) // as connections are guarded by it
	}
	w := &Webhook{url: address}
	for _, text := range strings.Fields(string(secrets)) {
		secret, err := parseSecret(text)
		if err != nil {
			return nil, err
		}
		w.secrets = append(w.secrets, secret)
	}
	if len(w.secrets) == 0 || len(w.secrets) > maxSecrets {
		return nil, fmt.Errorf("%d secrets: want one to %d", len(w.secrets), maxSecrets)
	}
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer(u.Hostname()),
		TLSHandshakeTimeout: postTime / 3,
		MaxIdleConnsPerHost: defaultParallel,
		IdleConnTimeout:     90 * time.Second,
		ForceAttemptHTTP2:   true,
	}
	w.client = &http.Client{
		Transport: transport,
		Timeout:   postTime,
		// What is signed is for this address alone.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return w, nil
}

// parseSecret reads the form of Standard Webhooks, "Signature scheme": 24 to 64 bytes.
func parseSecret(text string) ([]byte, error) {
	digits, ok := strings.CutPrefix(text, "whsec_")
	secret, err := base64.StdEncoding.DecodeString(digits)
	if !ok || err != nil || len(secret) < 24 || len(secret) > 64 {
		return nil, errors.New("a secret is whsec_ and 24 to 64 bytes in base64")
	}
	return secret, nil
}

// dialer keeps a name that somebody else's DNS answers from leading to this machine itself
// or to its cloud's metadata, unless the configuration says so plainly.
func dialer(host string) func(ctx context.Context, network, address string) (net.Conn, error) {
	plain := &net.Dialer{Timeout: postTime / 3}
	_, err := netip.ParseAddr(host)
	if err == nil || host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return plain.DialContext
	}
	guarded := &net.Dialer{Timeout: plain.Timeout, Control: func(_, address string, _ syscall.RawConn) error { return guard(host, address) }}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if name, _, err := net.SplitHostPort(address); err == nil && name == host {
			return guarded.DialContext(ctx, network, address)
		}
		return plain.DialContext(ctx, network, address) // a proxy
	}
}

// guard refuses the address that the name of a host has led to.
func guard(host, address string) error {
	at, err := netip.ParseAddrPort(address)
	if ip := at.Addr().Unmap(); err == nil && (ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified()) {
		return fmt.Errorf("%s is %s, which is this machine or its link: give the webhook's address as a number if that is meant", host, ip)
	}
	return err
}

// Post implements Poster.
func (w *Webhook) Post(ctx context.Context, e lodge.Event) error {
	body, err := e.MarshalJSON()
	if err != nil {
		return lodge.Errorf(lodge.ClassPermanent, "event", "%w", err)
	}
	if len(body) > maxEvent {
		return lodge.Errorf(lodge.ClassPermanent, "too-large", "an event of %d bytes (at most %d): %w", len(body), maxEvent, lodge.ErrLimit)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	at := strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/cloudevents+json")
	req.Header.Set("User-Agent", "lodge")
	req.Header["webhook-id"] = []string{e.ID.Hex()}
	req.Header["webhook-timestamp"] = []string{at}
	req.Header["webhook-signature"] = []string{w.sign(e.ID.Hex(), at, body)}
	res, err := w.client.Do(req)
	if err != nil {
		return lodge.Errorf(lodge.ClassRetry, "unreachable", "%w", withoutURL(err))
	}
	defer func() { _ = res.Body.Close() }()
	words, _ := io.ReadAll(io.LimitReader(res.Body, maxWords)) // for people: what is there
	return judge(res, words)
}

// withoutURL leaves the address out, which may hold a token.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// sign returns a signature with each secret over "id.timestamp.body".
func (w *Webhook) sign(id, at string, body []byte) string {
	var signatures []string
	for _, secret := range w.secrets {
		mac := hmac.New(sha256.New, secret)
		_, _ = io.WriteString(mac, id+"."+at+".") // a hash takes everything
		_, _ = mac.Write(body)
		signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(signatures, " ")
}

// judge says what an answer means: 2xx is success, 410 that the receiver wants no more.
func judge(res *http.Response, words []byte) error {
	code := fmt.Sprintf("http-%d", res.StatusCode)
	text := strings.Join(strings.Fields(strings.ToValidUTF8(string(words), "\uFFFD")), " ")
	switch {
	case res.StatusCode/100 == 2:
		return nil
	case res.StatusCode == http.StatusGone:
		return lodge.Errorf(lodge.ClassHeld, code, "HTTP 410: the receiver wants no more events. %s", text)
	case res.StatusCode/100 == 3:
		return lodge.Errorf(lodge.ClassRetry, code, "HTTP %d: redirects are not followed, configure the address itself", res.StatusCode)
	}
	e := lodge.Errorf(lodge.ClassRetry, code, "HTTP %d %s", res.StatusCode, text)
	e.RetryAfter = retryAfter(res.Header.Get("Retry-After"))
	return e
}

// retryAfter reads seconds or a date (RFC 9110 section 10.2.3); 0 is none.
func retryAfter(text string) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}
