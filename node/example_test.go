package node_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/logtest"
	"github.com/lodgehq/lodge/node"
)

const verdict = `{
  "_type": "https://in-toto.io/Statement/v1",
  "subject": [{"name": "app", "digest": {"sha256": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"}}],
  "predicateType": "https://example.com/scan-verdict/v1",
  "predicate": {"result": "pass"}
}`

// The push stage of a scan pipeline: it lodges the signed verdict and, once the log has
// proven that it is there, goes on with what waits for that.
func ExampleNode_Push() {
	config, key, envelope, done := pipeline()
	defer done()
	ctx, stop := context.WithCancel(context.Background())

	n, err := node.Open(ctx, config)
	if err != nil {
		log.Fatal(err)
	}
	running := make(chan error, 1)
	go func() { running <- n.Run(ctx) }()

	deliveries, err := n.Push(ctx, node.Submission{Envelope: envelope, Key: key})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(deliveries[0].State, "at log index", deliveries[0].Receipt.Log.LogIndex)

	published := errors.New("published")
	err = n.Follow(ctx, 0, func(e lodge.Event) error {
		fmt.Println(e.Type)
		if e.Type == lodge.InclusionVerified {
			return published // here the next stage begins
		}
		return nil
	})
	fmt.Println(err)

	stop()
	if err := errors.Join(<-running, n.Close()); err != nil {
		log.Fatal(err)
	}
	// Output:
	// verified at log index 0
	// dev.lodge.EntryQueued.v1
	// dev.lodge.EntryLogged.v1
	// dev.lodge.InclusionVerified.v1
	// published
}

// pipeline is what the stage has around it: a log, a configuration that names it, and a
// verdict with its signature and key.
func pipeline() (config node.Config, key *dsse.PublicKey, envelope []byte, done func()) {
	rekor, err := logtest.NewV2("127.0.0.1")
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(rekor)
	folder, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	logKey := filepath.Join(folder, "log.pem")
	if err := os.WriteFile(logKey, rekor.PublicPEM(), 0o600); err != nil {
		log.Fatal(err)
	}
	config = node.Config{
		Store:   "sqlite:" + filepath.Join(folder, "lodge.db"),
		Targets: map[string]node.Target{"rekor": {Log: &node.Log{URL: server.URL, Key: logKey}}},
		Deliver: []string{"rekor"},
	}
	private, err := dsse.ParsePrivateKey([]byte(examplePEM))
	if err != nil {
		log.Fatal(err)
	}
	if envelope, err = dsse.Sign("application/vnd.in-toto+json", []byte(verdict), private); err != nil {
		log.Fatal(err)
	}
	return config, private.Public(), envelope, func() {
		server.Close()
		if err := os.RemoveAll(folder); err != nil {
			log.Fatal(err)
		}
	}
}

// examplePEM signs in this example only.
const examplePEM = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgpJax0oSKh5c1OPQy
VebV1NZHvw9mmSKHT2g9V59YlrKhRANCAAR5NRi7hzHRuT5iFC9HZAU3p1lxqnij
r/9Fd1dNL4oSna0RUcKubWLAk10MxxB2DbjCxj1ODhHX9RlXY79Wr8wB
-----END PRIVATE KEY-----
`
