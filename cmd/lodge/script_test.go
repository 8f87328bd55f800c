package main_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lodgehq/lodge"
	main "github.com/lodgehq/lodge/cmd/lodge"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/logtest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"lodge": main.Main})
}

// TestScript runs the scripts of testdata/script. Each has a Rekor v2 log and an OCI
// registry of its own, empty, and these commands besides testscript's:
//
//	exits N lodge …         the exit status of a command is N
//	keygen FILE [ed25519]   writes FILE.pem and FILE.pub
//	image                   puts an image into the repository "app", and its digest into $IMAGE
//	envelopes FILE KEY N    writes N envelopes, one per line, signed with the private key
//	nested FILE N           writes an envelope with a member nested N deep
//	pad FILE N              adds N spaces to the line in a file
//	leaves N                the log has N entries
//	artifacts N             the image has N artifacts
//	log STATUS|stall|heal   the log answers all submissions with STATUS, stalls them, works again
//	log fork N|back N       the log serves another tree with the same first N entries, or these alone
//	asked N PATH            waits until the log has got N requests with "METHOD /path" in PATH
//	splice A B FILE         writes bundle A with the log entries of bundle B
//	answer A FILE           writes the log entry of bundle A as the log answered with it
//	until FILE N            waits until a file has N lines
//	interrupt [again]       sends SIGINT to the command in the background, or until it ends
//	ended N                 after wait: that command's exit status is N
//	sql FILE STATEMENT      runs a statement on a database
//	deny, allow             the registry answers 403 to every request, answers again
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "keygen": keygen, "image": image, "envelopes": envelopes, "nested": nested, "pad": pad,
			"leaves": leaves, "artifacts": artifacts, "log": logFault, "asked": asked, "splice": splice, "answer": answer, "until": until, "interrupt": interrupt, "ended": ended, "deny": deny, "allow": allow, "sql": sqlite,
		},
	})
}

// world is what a script talks to.
type world struct {
	log    *logtest.Log
	denied atomic.Bool
	host   string    // of the registry
	signal *exec.Cmd // that was interrupted
}

func setup(env *testscript.Env) error {
	l, err := logtest.NewV2("log.test")
	if err != nil {
		return err
	}
	w := &world{log: l}
	logServer := httptest.NewServer(l)
	env.Defer(logServer.Close)
	images := registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true))
	registryServer := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.denied.Load() {
			rw.Header().Set("Content-Type", "application/json")
			rw.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(rw, `{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}`)
			return
		}
		images.ServeHTTP(rw, r)
	}))
	env.Defer(registryServer.Close)
	w.host = strings.TrimPrefix(registryServer.URL, "http://")
	env.Values[worldKey] = w
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, ".state"))
	env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, ".config"))
	env.Setenv("DOCKER_CONFIG", filepath.Join(env.WorkDir, ".docker"))
	env.Setenv("LOG_URL", logServer.URL)
	env.Setenv("REGISTRY", w.host)
	return os.WriteFile(filepath.Join(env.WorkDir, "log.pub"), l.PublicPEM(), 0o600)
}

const worldKey = "world"

func worldOf(ts *testscript.TestScript) *world {
	w, ok := ts.Value(worldKey).(*world)
	if !ok {
		ts.Fatalf("the script has no world")
	}
	return w
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits N command…")
	}
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit status %d, want %s", code, args[0])
	}
}

func keygen(ts *testscript.TestScript, _ bool, args []string) {
	var private crypto.Signer
	var err error
	if len(args) > 1 && args[1] == "ed25519" {
		_, private, err = ed25519.GenerateKey(rand.Reader)
	} else {
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	ts.Check(err)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	ts.Check(err)
	spki, err := x509.MarshalPKIXPublicKey(private.Public())
	ts.Check(err)
	save(ts, args[0]+".pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	save(ts, args[0]+".pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))
}

func save(ts *testscript.TestScript, name string, content []byte) {
	ts.Check(os.WriteFile(ts.MkAbs(name), content, 0o600))
}

// image pushes the smallest image that there is, by plain HTTP.
func image(ts *testscript.TestScript, _ bool, _ []string) {
	host := worldOf(ts).host
	config := []byte(`{}`)
	manifest := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":%d},"layers":[]}`,
		lodge.DigestOf(config), len(config))
	post(ts, http.MethodPost, "http://"+host+"/v2/app/blobs/uploads/?digest="+lodge.DigestOf(config).String(), "application/octet-stream", config)
	post(ts, http.MethodPut, "http://"+host+"/v2/app/manifests/v1", "application/vnd.oci.image.manifest.v1+json", manifest)
	ts.Setenv("IMAGE", lodge.DigestOf(manifest).String())
	ts.Setenv("IMAGE_HEX", lodge.DigestOf(manifest).Hex())
}

func post(ts *testscript.TestScript, method, url, contentType string, body []byte) {
	r, err := http.NewRequest(method, url, bytes.NewReader(body))
	ts.Check(err)
	r.Header.Set("Content-Type", contentType)
	res, err := http.DefaultClient.Do(r)
	ts.Check(err)
	_ = res.Body.Close()
	if res.StatusCode != http.StatusCreated {
		ts.Fatalf("%s %s: %s", method, url, res.Status)
	}
}

func envelopes(ts *testscript.TestScript, _ bool, args []string) {
	key, err := dsse.ParsePrivateKey([]byte(ts.ReadFile(args[1])))
	ts.Check(err)
	var b bytes.Buffer
	for i := range number(ts, args[2]) {
		envelope, err := dsse.Sign("application/json", fmt.Appendf(nil, `{"number":%d}`, i), key)
		ts.Check(err)
		b.Write(append(envelope, '\n'))
	}
	save(ts, args[0], b.Bytes())
}

func number(ts *testscript.TestScript, s string) int {
	n, err := strconv.Atoi(s)
	ts.Check(err)
	return n
}

func nested(ts *testscript.TestScript, _ bool, args []string) {
	n := number(ts, args[1])
	save(ts, args[0], []byte(`{"payloadType":"application/json","payload":"e30=","x":`+strings.Repeat("[", n)+strings.Repeat("]", n)+`,"signatures":[{"sig":"AA=="}]}`))
}

func pad(ts *testscript.TestScript, _ bool, args []string) {
	line := strings.TrimSuffix(ts.ReadFile(args[0]), "\n")
	save(ts, args[0], []byte(line+strings.Repeat(" ", number(ts, args[1]))+"\n"))
}

func splice(ts *testscript.TestScript, _ bool, args []string) {
	var a, b map[string]map[string]any
	ts.Check(json.Unmarshal([]byte(`{"x":`+ts.ReadFile(args[0])+`}`), &a))
	ts.Check(json.Unmarshal([]byte(`{"x":`+ts.ReadFile(args[1])+`}`), &b))
	material := func(bundle map[string]any) map[string]any {
		m, ok := bundle["verificationMaterial"].(map[string]any)
		if !ok {
			ts.Fatalf("no verification material in %v", bundle)
		}
		return m
	}
	material(a["x"])["tlogEntries"] = material(b["x"])["tlogEntries"]
	raw, err := json.Marshal(a["x"])
	ts.Check(err)
	save(ts, args[2], raw)
}

func answer(ts *testscript.TestScript, _ bool, args []string) {
	var bundle struct {
		Material struct {
			Entries []json.RawMessage `json:"tlogEntries"`
		} `json:"verificationMaterial"`
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &bundle))
	save(ts, args[1], bundle.Material.Entries[0])
}

func leaves(ts *testscript.TestScript, _ bool, args []string) {
	if size := worldOf(ts).log.Size(); size != int64(number(ts, args[0])) {
		ts.Fatalf("the log has %d entries, want %s", size, args[0])
	}
}

func artifacts(ts *testscript.TestScript, _ bool, args []string) {
	res, err := http.Get("http://" + worldOf(ts).host + "/v2/app/referrers/" + ts.Getenv("IMAGE"))
	ts.Check(err)
	defer func() { _ = res.Body.Close() }()
	var index struct{ Manifests []json.RawMessage }
	ts.Check(json.NewDecoder(res.Body).Decode(&index))
	if len(index.Manifests) != number(ts, args[0]) {
		ts.Fatalf("the image has %d artifacts, want %s", len(index.Manifests), args[0])
	}
}

func logFault(ts *testscript.TestScript, _ bool, args []string) {
	l := worldOf(ts).log
	switch args[0] {
	case "heal":
		l.Heal()
	case "stall":
		l.Inject(logtest.Fault{Count: -1, Stall: time.Minute})
	case "back":
		l.RollBack(int64(number(ts, args[1])))
	case "fork":
		fork := l.Fork(int64(number(ts, args[1])))
		for fork.Size() <= l.Size() {
			fork.Append([]byte(`{"apiVersion":"0.0.1","kind":"other"}`))
		}
		l.Replace(fork)
	default:
		l.Inject(logtest.Fault{Count: -1, Status: number(ts, args[0]), Body: `{"code":3,"message":"the log's own words"}`})
	}
}

func asked(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for worldOf(ts).log.Requests(args[1]) < number(ts, args[0]) {
		if <-tick.C; time.Now().After(deadline) {
			ts.Fatalf("the log got %d requests with %q, want %s", worldOf(ts).log.Requests(args[1]), args[1], args[0])
		}
	}
}

func until(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		raw, err := os.ReadFile(ts.MkAbs(args[0]))
		if n := bytes.Count(raw, []byte("\n")); n >= number(ts, args[1]) {
			return
		} else if <-tick.C; time.Now().After(deadline) {
			ts.Fatalf("%s has %d lines, want %s (%v)", args[0], n, args[1], err)
		}
	}
}

func interrupt(ts *testscript.TestScript, _ bool, args []string) {
	running := ts.BackgroundCmds()
	cmd := running[len(running)-1]
	worldOf(ts).signal = cmd
	ts.Check(cmd.Process.Signal(os.Interrupt))
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for len(args) > 0 && cmd.Process.Signal(os.Interrupt) == nil {
		<-tick.C
	}
}

func ended(ts *testscript.TestScript, _ bool, args []string) {
	if code := worldOf(ts).signal.ProcessState.ExitCode(); code != number(ts, args[0]) {
		ts.Fatalf("exit status %d, want %s", code, args[0])
	}
}

// sqlite runs a statement on a database.
func sqlite(ts *testscript.TestScript, _ bool, args []string) {
	db, err := sql.Open("sqlite", ts.MkAbs(args[0]))
	ts.Check(err)
	_, err = db.Exec(args[1])
	ts.Check(errors.Join(err, db.Close()))
}

func deny(ts *testscript.TestScript, _ bool, _ []string)  { worldOf(ts).denied.Store(true) }
func allow(ts *testscript.TestScript, _ bool, _ []string) { worldOf(ts).denied.Store(false) }
