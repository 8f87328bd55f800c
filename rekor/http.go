package rekor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/lodgehq/lodge"
)

// maxAnswer bounds the body of an answer. An entry is a few kilobytes, but a v1 log can
// return the attestation that it stores along with it.
const maxAnswer = 8 << 20

const maxRedirects = 3

// Answer is what came back from a request: a status, or the error that came in its place.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
	Err    error // of the transport, or of reading the body
	Sent   bool  // a byte of the request may have left
}

// conn sends requests to one address.
type conn struct {
	base   string
	client *http.Client
}

func newConn(client *http.Client, base string) (conn, error) {
	base, err := checkURL(base)
	if err != nil {
		return conn{}, err
	}
	if client == nil {
		client = http.DefaultClient
	}
	direct := *client
	// A redirected submission would be sent twice, or as a GET. What is read is verified
	// wherever it comes from.
	direct.CheckRedirect = func(_ *http.Request, via []*http.Request) error {
		if via[0].Method != http.MethodGet || len(via) > maxRedirects {
			return http.ErrUseLastResponse
		}
		return nil
	}
	return conn{base: base, client: &direct}, nil
}

// get reads, for readTimeout at most. A submission's time is its caller's.
func (c conn) get(ctx context.Context, path string, limit int64) Answer {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return c.do(ctx, http.MethodGet, path, nil, limit)
}

func (c conn) post(ctx context.Context, path string, body []byte) Answer {
	return c.do(ctx, http.MethodPost, path, body, maxAnswer)
}

func (c conn) do(ctx context.Context, method, path string, body []byte, limit int64) Answer {
	ctx, sent := lodge.TraceSent(ctx)
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return Answer{Err: err}
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "lodge")
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	} else {
		req.Header.Set("Accept", "*/*")
		req.Header.Set("Cache-Control", "no-cache") // a stale checkpoint proves no absence
	}
	res, err := c.client.Do(req)
	if err != nil {
		return Answer{Err: err, Sent: sent(err)}
	}
	defer func() { _ = res.Body.Close() }()
	a := Answer{Status: res.StatusCode, Header: res.Header, Sent: true}
	a.Body, a.Err = io.ReadAll(io.LimitReader(res.Body, limit+1))
	if a.Err == nil && int64(len(a.Body)) > limit {
		a.Err = fmt.Errorf("an answer of more than %d bytes: %w", limit, lodge.ErrLimit)
	}
	return a
}

// reader is the read side of a v2 log, a tree of static files. It implements tlog.Fetcher.
type reader struct{ conn }

// Fetch returns a file. Its errors are *lodge.Error; a missing file's wraps lodge.ErrNotFound.
func (r reader) Fetch(ctx context.Context, path string) ([]byte, error) {
	a := r.get(ctx, "/"+path, maxFile)
	switch {
	case a.Err == nil && a.Status == http.StatusNotImplemented:
		return nil, r.elsewhere(a.Status)
	case a.Err != nil || a.Status != http.StatusOK && a.Status != http.StatusNotFound:
		return nil, readError(a)
	case a.Status == http.StatusNotFound:
		return nil, lodge.Errorf(lodge.ClassRetry, "file-missing", "%s/%s: %w", r.base, path, lodge.ErrNotFound)
	}
	return a.Body, nil
}

// elsewhere says that the log is not read at this address: rekor-tiles with its files in a folder
// answers 501 there.
func (r reader) elsewhere(status int) *lodge.Error {
	return lodge.Errorf(lodge.ClassHeld, "read-url",
		"the log does not serve its checkpoint and tiles at %s (HTTP %d): give the address that does as its read URL", r.base, status)
}

// readError classifies an answer to a request that changes nothing: whatever happened, it
// can be made again, and what is wrong for good is wrong with the address.
func readError(a Answer) *lodge.Error {
	e := Classify(Version2, a)
	switch e.Class {
	case lodge.ClassUnknown:
		e.Class = lodge.ClassRetry
	case lodge.ClassPermanent, lodge.ClassReroute:
		e.Class = lodge.ClassHeld
	}
	if a.Err != nil && errors.Is(a.Err, lodge.ErrLimit) {
		e.Code = "answer-too-large"
	}
	return e
}
