package lodge

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
)

// Bounds on what a server may say and ask for.
const (
	maxWords      = 300            // characters that are kept of a message
	maxRetryAfter = 24 * time.Hour // longer ones are more likely a mistake than a wish
)

// RetryAfter reads the header of that name, seconds or a date (RFC 9110 section 10.2.3): how
// long from now a server wants to be left alone, a day at most; 0 where it does not say.
func RetryAfter(header string, now time.Time) time.Duration {
	header = strings.TrimSpace(header)
	var d time.Duration
	if seconds, err := strconv.ParseUint(header, 10, 32); err == nil {
		d = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(header); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}

// OneLine returns what a server said as one line that is safe to print, 300 characters of it.
func OneLine(words string) string {
	words = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(words, "?"), func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r)
	}), " ")
	if runes := []rune(words); len(runes) > maxWords {
		words = string(runes[:maxWords]) + "…"
	}
	return words
}

// NeverSent tells whether err came from getting a connection: no byte of the request can
// have left.
func NeverSent(err error) bool {
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
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, http.ErrSchemeMismatch):
		return true
	}
	return errors.As(err, &op) && op.Op == "dial"
}
