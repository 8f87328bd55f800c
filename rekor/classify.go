package rekor

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/lodgehq/lodge"
)

const (
	maxWords      = 300            // characters of a server's message that are kept
	maxRetryAfter = 24 * time.Hour // longer ones are more likely a mistake than a wish
	statusGaveUp  = 499            // nginx, grpc-gateway: the client closed the request
)

// Classify says what follows from an answer to a submission that was no success (design
// section 4). It is the one place where that is decided.
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
	e.RetryAfter = retryAfter(a.Header)
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
	words = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(words, "?"), func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r)
	}), " ")
	if runes := []rune(words); len(runes) > maxWords {
		words = string(runes[:maxWords]) + "…"
	}
	return words
}

// retryAfter reads the header's two forms, seconds and a date (RFC 9110 section 10.2.3).
func retryAfter(h http.Header) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	var d time.Duration
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil {
		d = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		d = time.Until(at)
	}
	return min(max(d, 0), maxRetryAfter)
}

// neverLeft tells whether err came from getting a connection: no byte of the request can
// have left.
func neverLeft(err error) bool {
	var (
		dns         *net.DNSError
		op          *net.OpError
		record      tls.RecordHeaderError
		alert       tls.AlertError
		verify      *tls.CertificateVerificationError
		authority   x509.UnknownAuthorityError
		certificate x509.CertificateInvalidError
		host        x509.HostnameError
	)
	switch {
	case errors.As(err, &dns), errors.As(err, &record), errors.As(err, &alert), errors.As(err, &verify),
		errors.As(err, &authority), errors.As(err, &certificate), errors.As(err, &host):
		return true
	case errors.Is(err, syscall.ECONNREFUSED):
		return true
	}
	return errors.As(err, &op) && op.Op == "dial"
}
