package bench_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/e2e/servers"
	"github.com/lodgehq/lodge/node"
)

var (
	rounds = flag.Int("bench.rounds", 1, "how often each measure is taken; the median counts")
	count  = flag.Int("bench.count", 512, "envelopes of one measure with 512 in flight, fewer with fewer")
	out    = flag.String("bench.out", "", "file that the results are added to; default none")
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(servers.Main(m))
}

// atLeast is which part of the load generator's rate delivery is to have.
const atLeast = 0.9

// TestDelivery takes the measures in turns and prints how they compare. Only what is wrong
// is a failure: the figures are those of the machine.
func TestDelivery(t *testing.T) {
	site := &site{T: t, log: servers.StartRekorV2(t, servers.RekorV2Config{Forgetful: true}), signer: servers.ECDSA(t, elliptic.P256())}
	table := &strings.Builder{}
	fmt.Fprintf(table, "\n## Delivery to a real v2 log\n\nMedians of %d rounds in which the measures take turns, %d envelopes each (64 in flight: an eighth), over a rekor-tiles (%s) on the same\n"+
		"machine with a batch age of 50 ms and a checkpoint every 100 ms, which answers a request after a second. *bare* posts ready\n"+
		"requests and reads the answers; lodge also searches before each, writes ahead, verifies the answer and keeps the receipt.\n\n"+
		"| in flight | bare, per second | lodge | ratio | at least | |\n|---|---|---|---|---|---|\n", *rounds, *count, servers.RekorTiles.Version)
	for _, n := range []int{64, 512} {
		var bare, ours, ratios []float64
		for range *rounds {
			b, l := site.bare(n), site.lodge(n)
			t.Logf("%d in flight: bare %.0f/s, lodge %.0f/s", n, b, l)
			bare, ours, ratios = append(bare, b), append(ours, l), append(ratios, l/b)
		}
		verdict := "holds"
		if median(ratios) < atLeast {
			verdict = "falls short"
		}
		fmt.Fprintf(table, "| %d | %.0f | %.0f | %.2f | %.2f | %s |\n", n, median(bare), median(ours), median(ratios), atLeast, verdict)
	}
	t.Log(table)
	if *out == "" {
		return
	}
	f, err := os.OpenFile(*out, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.WriteString(f, table.String())
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// site is a log and somebody who signs.
type site struct {
	*testing.T
	log    *servers.RekorV2
	signer servers.KeyPair
}

func (s *site) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// payloads returns new statements for a measure with so many in flight.
func (s *site) payloads(flight int) [][]byte {
	payloads := make([][]byte, *count*flight/512)
	for i := range payloads {
		payloads[i] = fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"%064x"}}],`+
			`"predicateType":"https://example.com/verdict","predicate":{"%s":"%2000d"}}`, i, rand.Text(), i)
	}
	return payloads
}

// bare posts requests that are ready, n at a time, and returns how many a second.
func (s *site) bare(n int) float64 {
	s.Helper()
	spki, err := x509.MarshalPKIXPublicKey(s.signer.Signer.Public())
	s.must(err)
	var requests [][]byte
	for _, payload := range s.payloads(n) {
		digest := sha256.Sum256(payload)
		signature, err := s.signer.Signer.Sign(rand.Reader, digest[:], crypto.SHA256)
		s.must(err)
		request, err := json.Marshal(map[string]any{"hashedRekordRequestV002": map[string]any{"digest": digest[:], "signature": map[string]any{
			"content":  signature,
			"verifier": map[string]any{"publicKey": map[string]any{"rawBytes": spki}, "keyDetails": "PKIX_ECDSA_P256_SHA_256"}}}})
		s.must(err)
		requests = append(requests, request)
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	defer client.CloseIdleConnections()
	var next, failed atomic.Int64
	var workers sync.WaitGroup
	begin := time.Now()
	for range n {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(requests); i = int(next.Add(1)) - 1 {
				if err := post(client, s.log.URL+"/api/v2/log/entries", requests[i]); err != nil {
					failed.Add(1)
					s.Log(err)
				}
			}
		})
	}
	workers.Wait()
	took := time.Since(begin)
	if failed.Load() > 0 {
		s.Errorf("%d bare requests failed", failed.Load())
	}
	return float64(len(requests)) / took.Seconds()
}

func post(client *http.Client, url string, body []byte) error {
	res, err := client.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusCreated {
		err = fmt.Errorf("HTTP %d: %.200s", res.StatusCode, answer)
	}
	return err
}

// lodge delivers envelopes that are accepted already, n at a time, and returns how many a
// second are verified.
func (s *site) lodge(n int) float64 {
	s.Helper()
	config := node.Config{
		Store:   "sqlite:" + filepath.Join(s.TempDir(), "lodge.db"),
		Signers: []node.Signer{{Key: s.signer.Public}},
		Targets: map[string]node.Target{"log": {
			Log:         &node.Log{URL: s.log.URL, ReadURL: s.log.ReadURL, Key: s.log.Key.Public, Origin: s.log.Origin},
			Concurrency: n,
		}},
		Deliver: []string{"log"},
	}
	lodger, err := node.Open(s.Context(), config)
	s.must(err)
	defer func() { s.must(lodger.Close()) }()
	pem, err := os.ReadFile(s.signer.Private)
	s.must(err)
	key, err := dsse.ParsePrivateKey(pem)
	s.must(err)
	var accepting sync.WaitGroup
	payloads := s.payloads(n)
	for _, payload := range payloads {
		raw, err := dsse.Sign("application/vnd.in-toto+json", payload, key)
		s.must(err)
		accepting.Go(func() {
			if _, err := lodger.Accept(s.Context(), node.Submission{Envelope: raw}); err != nil {
				s.Error(err)
			}
		})
	}
	accepting.Wait()
	ctx, stop := context.WithTimeout(s.Context(), 5*time.Minute)
	defer stop()
	begin, done := time.Now(), make(chan error, 1)
	go func() { done <- lodger.Run(ctx) }()
	verified := 0
	err = lodger.Follow(ctx, 0, func(e lodge.Event) error {
		if e.Type == lodge.InclusionVerified {
			verified++
		}
		if verified == len(payloads) {
			return io.EOF
		}
		return nil
	})
	took := time.Since(begin)
	stop()
	s.must(<-done)
	if !errors.Is(err, io.EOF) {
		s.Fatalf("%d of %d are verified: %v", verified, len(payloads), err)
	}
	return float64(len(payloads)) / took.Seconds()
}
