package rekor

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/lodgehq/lodge"
)

const statusGaveUp = 499 // nginx, grpc-gateway: the client closed the request

// Classify says what follows from an answer to a submission that was no success (the table of
// answers of docs/architecture.md). It is the one place where that is decided.
//
// A 409 is a success once the entry is verified, which its caller does; here it is only known
// that an entry may be there.
func Classify(v Version, a Answer) *lodge.Error {
	if a.Err != nil {
		return classifyTransport(a)
	}
	e := classifyStatus(v, a.Status)
	e.Message = fmt.Sprintf("HTTP %d", a.Status)
	if words := serverWords(a); words != "" {
		e.Message += ": " + words
	}
	e.RetryAfter = lodge.RetryAfter(a.Header.Get("Retry-After"), time.Now())
	return e
}

func classifyTransport(a Answer) *lodge.Error {
	cause := a.Err
	if about, ok := errors.AsType[*url.Error](cause); ok {
		cause = about.Err // who asks knows the address
	}
	if !a.Sent {
		return lodge.Errorf(lodge.ClassRetry, "unreachable", "%w", cause)
	}
	return lodge.Errorf(lodge.ClassUnknown, "no-answer", "no whole answer came: %w", cause)
}

func classifyStatus(v Version, status int) *lodge.Error {
	class, code := lodge.ClassUnknown, "unexpected-status"
	switch {
	case status == http.StatusTooEarly, status == http.StatusTooManyRequests:
		class, code = lodge.ClassRetry, "rate-limited"
	case status == http.StatusRequestTimeout, status == statusGaveUp:
		class, code = lodge.ClassUnknown, "timed-out"
	case status == http.StatusConflict:
		class, code = lodge.ClassUnknown, "conflict"
	case status >= 500:
		class, code = lodge.ClassUnknown, "server-error"
	case status == http.StatusMethodNotAllowed && v == Version2:
		class, code = lodge.ClassReroute, "frozen"
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusProxyAuthRequired:
		class, code = lodge.ClassHeld, "unauthorized"
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed,
		status == http.StatusUnsupportedMediaType, status >= 300 && status < 400:
		class, code = lodge.ClassHeld, "wrong-address"
	case status >= 400:
		class, code = lodge.ClassPermanent, "refused"
	}
	return &lodge.Error{Class: class, Code: code}
}

// serverWords returns what the server said, as one line that is safe to print.
func serverWords(a Answer) string {
	var said struct {
		Message string `json:"message"`
	}
	words := string(a.Body[:min(len(a.Body), 64<<10)])
	if json.Unmarshal(a.Body, &said) == nil && said.Message != "" {
		words = said.Message
	}
	if location := a.Header.Get("Location"); location != "" && a.Status >= 300 && a.Status < 400 {
		words = "redirected to " + location
	}
	return lodge.OneLine(words)
}
