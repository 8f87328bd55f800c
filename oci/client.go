package oci

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"

	"github.com/lodgehq/lodge"
)

// maxAnswer bounds what is read of an error's body.
const maxAnswer = 8 << 10

// newClient returns a client that asks for credentials when the registry does, and that
// repeats nothing.
func newClient(o Options) *auth.Client {
	transport := o.Transport
	if transport == nil {
		transport = &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout:   15 * time.Second,
			ResponseHeaderTimeout: time.Minute,
			IdleConnTimeout:       90 * time.Second,
			MaxIdleConnsPerHost:   32,
			ForceAttemptHTTP2:     true,
		}
	}
	client := &auth.Client{
		Client:     &http.Client{Transport: answerTransport{transport}},
		Cache:      auth.NewCache(),
		Credential: credential,
	}
	client.SetUserAgent("lodge")
	return client
}

// credential reads the docker configuration anew each time, for a daemon outlives a login.
func credential(ctx context.Context, host string) (auth.Credential, error) {
	store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
	if err != nil {
		return auth.EmptyCredential, fmt.Errorf("%w: reading the docker configuration: %w", errCredentials, err)
	}
	cred, err := credentials.Credential(store)(ctx, host)
	if err != nil {
		return auth.EmptyCredential, fmt.Errorf("%w: for %s: %w", errCredentials, host, err)
	}
	return cred, nil
}

// isLoopback tells whether a registry is on this machine; only there plain HTTP will do.
func isLoopback(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	ip := net.ParseIP(name)
	return name == "localhost" || ip != nil && ip.IsLoopback()
}

// busyError is an answer that says nothing about the request but "not now": 408, 425, 429,
// 499 and every 5xx.
type busyError struct {
	status     int
	retryAfter time.Duration
	words      string
}

func (b *busyError) Error() string {
	text := strings.TrimSpace(strconv.Itoa(b.status) + " " + http.StatusText(b.status))
	if b.words != "" {
		text += ": " + b.words
	}
	return text
}

// unsentError is what a request ended with of which nothing has left, nor of one that was
// redirected to it.
type unsentError struct{ error }

func (u *unsentError) Unwrap() error { return u.error }

// answerTransport turns such answers into errors, because oras drops the Retry-After header
// of those that it makes of them, and tells of other errors whether they came before or after
// something was sent.
type answerTransport struct{ next http.RoundTripper }

func (t answerTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, sent := lodge.TraceSent(req.Context())
	resp, err := t.next.RoundTrip(req.WithContext(ctx))
	switch {
	case err != nil && (req.Response != nil || sent(err)): // what was redirected has left
		return nil, err
	case err != nil:
		if record, ok := errors.AsType[tls.RecordHeaderError](err); ok && string(record.RecordHeader[:]) == "HTTP/" {
			err = http.ErrSchemeMismatch // net/http says so only of what it sees at once
		}
		return nil, &unsentError{err}
	}
	switch s := resp.StatusCode; {
	case s == http.StatusRequestTimeout, s == http.StatusTooEarly, s == http.StatusTooManyRequests, s == 499, s >= 500:
	default:
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // half the words are better than none
	return nil, &busyError{
		status:     resp.StatusCode,
		retryAfter: lodge.RetryAfter(resp.Header.Get("Retry-After"), time.Now()),
		words:      words(body),
	}
}
