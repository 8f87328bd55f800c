package node

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/digitorus/timestamp"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/verify"
)

const (
	tsaTimeout   = 10 * time.Second // for an authority to answer
	maxTimestamp = 64 << 10         // bytes of an answer
)

// timestamps has each of the configured authorities stamp the signature, unless that was done
// before. One answer is enough.
//
// Without any, an envelope under a certificate is not accepted for a log: it could not be
// verified once its certificate's minutes are over, and it is no worse off for being pushed
// again. Everything else is accepted without.
func (n *Node) timestamps(ctx context.Context, att *bundle.Attestation, orders []lodge.Order) ([][]byte, error) {
	known, err := n.store.Timestamps(ctx, att.Key, maxStored)
	if err != nil {
		return nil, err
	}
	known = slices.DeleteFunc(known, func(ts []byte) bool { _, err := n.stampedAt(ts, att.Signature); return err != nil })
	if len(known) > 0 {
		return known, nil
	}
	ctx, cancel := context.WithTimeout(ctx, tsaTimeout)
	defer cancel()
	stamps, errs := make([][]byte, len(n.config.TSA)), make([]error, len(n.config.TSA))
	var asked sync.WaitGroup
	for i, url := range n.config.TSA {
		asked.Go(func() {
			if stamps[i], errs[i] = n.timestamp(ctx, url, att.Signature); errs[i] != nil {
				errs[i] = fmt.Errorf("timestamp authority %s: %w", url, errs[i])
			}
		})
	}
	asked.Wait()
	stamps = slices.DeleteFunc(stamps, func(ts []byte) bool { return ts == nil })
	if len(stamps)+len(att.Timestamps) > bundle.MaxTimestamps {
		return nil, nil // it has enough
	}
	err = errors.Join(errs...)
	toLog := slices.ContainsFunc(orders, func(o lodge.Order) bool { return o.Target.Kind == lodge.KindLog })
	if err != nil && len(stamps)+len(att.Timestamps) == 0 && toLog && len(att.Certificates) > 0 {
		return nil, lodge.Errorf(lodge.ClassRetry, "timestamp",
			"nothing was accepted, for an envelope under a certificate needs a timestamp: push it again: %w", err)
	}
	if err != nil {
		slog.Warn("accepted without a timestamp", "key", att.Key, "error", err)
	}
	return stamps, nil
}

// timestamp asks an authority for a timestamp over signature (RFC 3161 section 3.4) and
// returns the answer where it is one, by an authority of the trusted root where there is one.
func (n *Node) timestamp(ctx context.Context, url string, signature []byte) ([]byte, error) {
	nonce, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return nil, err
	}
	query, err := timestamp.CreateRequest(bytes.NewReader(signature), &timestamp.RequestOptions{Hash: crypto.SHA256, Certificates: true, Nonce: nonce})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(query))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/timestamp-query")
	req.Header.Set("Accept", "application/timestamp-reply")
	res, err := httpClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxTimestamp+1))
	switch {
	case err != nil:
		return nil, err
	case res.StatusCode != http.StatusOK && res.StatusCode != http.StatusCreated:
		return nil, fmt.Errorf("HTTP %d", res.StatusCode)
	case len(answer) > maxTimestamp:
		return nil, fmt.Errorf("%w: an answer of more than %d bytes", lodge.ErrLimit, maxTimestamp)
	}
	if _, err := n.stampedAt(answer, signature); err != nil {
		return nil, err
	}
	// Whoever recorded an old answer can't give it for this query.
	if ts, err := timestamp.ParseResponse(answer); err != nil || ts.Nonce == nil || ts.Nonce.Cmp(nonce) != 0 {
		return nil, errors.New("the answer is not to this query: its nonce differs")
	}
	return answer, nil
}

// stampedAt judges a timestamp over signature as far as it can be: with a trusted root by the
// authorities that this names; without one by what it says to be over.
func (n *Node) stampedAt(ts, signature []byte) (time.Time, error) {
	if n.signers.Root == nil {
		return verify.Imprint(ts, signature)
	}
	return n.signers.Root.Time(ts, signature)
}

// maxStored bounds the timestamps that are looked at of one payload.
const maxStored = bundle.MaxTimestamps

// attestAgain judges a certificate, which was refused with err, by the timestamps that were
// taken when the same signature was accepted before: its minutes may be over by now.
func (n *Node) attestAgain(ctx context.Context, signers verify.Signers, b *bundle.Bundle, err error) (*bundle.Attestation, error) {
	known, failed := n.store.Timestamps(ctx, dsse.Key(b.Envelope.PayloadType, b.Envelope.Payload), maxStored)
	if failed != nil {
		return nil, failed
	}
	if len(known) == 0 {
		return nil, err
	}
	again := *b
	again.Timestamps = slices.Concat(b.Timestamps, known)
	att, failed := signers.Attest(&again)
	if failed != nil {
		return nil, err
	}
	att.Timestamps = b.Timestamps
	return att, nil
}
