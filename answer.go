package lodge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
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

// TraceSent returns the context for one request, and a function that tells from the error that
// the request ended with whether something of it may have left: not where it got no connection.
func TraceSent(ctx context.Context) (context.Context, func(error) bool) {
	var dialing, connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { dialing.Store(true) },
		// From here on the transport may write, and write again on a new connection.
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	return ctx, func(err error) bool {
		// A transport that is not net/http's own calls no hook; its error must say it.
		return connected.Load() || !dialing.Load() && !neverSent(err)
	}
}

// neverSent tells whether err can only come from getting a connection.
func neverSent(err error) bool {
	var (
		dns         *net.DNSError
		op          *net.OpError
		record      tls.RecordHeaderError
		verify      *tls.CertificateVerificationError
		authority   x509.UnknownAuthorityError
		certificate x509.CertificateInvalidError
		host        x509.HostnameError
	)
	switch {
	case errors.As(err, &record):
		return record.Conn != nil // else it may stand in the place of an answer
	case errors.As(err, &dns), errors.As(err, &verify), errors.As(err, &authority), errors.As(err, &certificate), errors.As(err, &host):
		return true
	case errors.Is(err, syscall.ECONNREFUSED):
		return true
	}
	return errors.As(err, &op) && op.Op == "dial"
}
