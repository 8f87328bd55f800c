package servers_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lodgehq/lodge/e2e/servers"
)

func TestMain(m *testing.M) { os.Exit(servers.Main(m)) }

// entry is a request for a hashedrekord entry about a text, as rekor-tiles takes it.
func entry(t *testing.T, key servers.KeyPair, text string) []byte {
	t.Helper()
	digest := sha256.Sum256([]byte(text))
	sig, err := key.Signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	request, err := json.Marshal(map[string]any{"hashedRekordRequestV002": map[string]any{
		"digest": digest[:],
		"signature": map[string]any{"content": sig, "verifier": map[string]any{
			"publicKey": map[string]any{"rawBytes": der}, "keyDetails": "PKIX_ECDSA_P256_SHA_256",
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return request
}

// post posts JSON and returns status and body; 0 and the error where there was no answer.
func post(t *testing.T, url string, body []byte) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(answer)
}

func TestRekorV2Serves(t *testing.T) {
	log := servers.StartRekorV2(t, servers.RekorV2Config{})
	key := servers.ECDSA(t, elliptic.P256())
	if got := log.Size(); got != 0 {
		t.Fatalf("a new log has %d entries", got)
	}
	first := entry(t, key, "first")
	code, answer := post(t, log.URL+"/api/v2/log/entries", first)
	if code != http.StatusCreated {
		t.Fatalf("submitting: %d %s", code, answer)
	}
	var got struct {
		CanonicalizedBody []byte
		InclusionProof    struct{ Checkpoint struct{ Envelope string } }
	}
	if err := json.Unmarshal([]byte(answer), &got); err != nil {
		t.Fatal(err)
	}
	if bodies := log.Bodies(); log.Size() != 1 || len(bodies) != 1 || !bytes.Equal(bodies[0], got.CanonicalizedBody) {
		t.Fatalf("size %d, entries %q, want one: %s", log.Size(), bodies, got.CanonicalizedBody)
	}
	if !strings.HasPrefix(got.InclusionProof.Checkpoint.Envelope, log.Origin+"\n1\n") {
		t.Fatalf("checkpoint in the answer: %s", answer)
	}

	log.Restart()
	if status, answer := post(t, log.URL+"/api/v2/log/entries", first); status != http.StatusConflict {
		t.Fatalf("submitting again: %d %s", status, answer)
	}
	resp, err := http.Get(log.ReadURL + "/checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	note, err := io.ReadAll(resp.Body)
	if err != nil || !strings.HasPrefix(string(note), log.Origin+"\n1\n") {
		t.Fatalf("read side: %s %s %v", resp.Status, note, err)
	}
	if n := log.Read.Count(servers.Requests("GET", "/checkpoint")); n != 1 {
		t.Errorf("the read side counted %d requests", n)
	}

	front := log.Front(t)
	if status, answer := post(t, front.URL+"/api/v2/log/entries", first); status != http.StatusConflict {
		t.Errorf("submitting at the front: %d %s", status, answer)
	}
	if got := status(t, front.URL+"/api/v2/checkpoint", servers.Login{}); got != http.StatusOK {
		t.Errorf("reading at the front: %d", got)
	}
}

func TestRekorV2Variants(t *testing.T) {
	key, logKey := servers.ECDSA(t, elliptic.P256()), servers.ECDSA(t, elliptic.P256())
	log := servers.StartRekorV2(t, servers.RekorV2Config{Origin: "ecdsa.test", Key: &logKey, Forgetful: true})
	request := entry(t, key, "text")
	if status, answer := post(t, log.URL+"/api/v2/log/entries", request); status != http.StatusCreated {
		t.Fatalf("submitting: %d %s", status, answer)
	}
	log.Restart()
	if status, answer := post(t, log.URL+"/api/v2/log/entries", request); status != http.StatusCreated || log.Size() != 2 {
		t.Fatalf("a forgetful log after a restart: %d %s, size %d", status, answer, log.Size())
	}
	log.Stop()

	frozen := servers.StartRekorV2(t, servers.RekorV2Config{Origin: "ecdsa.test", Key: &logKey, Dir: log.Dir, ReadOnly: true})
	status, answer := post(t, frozen.URL+"/api/v2/log/entries", entry(t, key, "another"))
	if status != http.StatusMethodNotAllowed || frozen.Size() != 2 {
		t.Fatalf("a frozen shard: %d %s, size %d", status, answer, frozen.Size())
	}
}

func TestProcess(t *testing.T) {
	log := servers.StartRekorV2(t, servers.RekorV2Config{})
	client := http.Client{Timeout: 200 * time.Millisecond}
	get := func() error {
		resp, err := client.Get(log.URL + "/healthz")
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	}
	log.Pause()
	if get() == nil {
		t.Error("a paused server answers")
	}
	log.Resume()
	client.Timeout = 0
	if err := get(); err != nil {
		t.Error(err)
	}
	log.Kill()
	log.Kill() // twice is fine
	if get() == nil {
		t.Error("a killed server answers")
	}
	log.Start()
	if err := get(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.Log(), "rekor") {
		t.Errorf("log: %q", log.Log())
	}
}

func TestRegistries(t *testing.T) {
	login := servers.Login{User: "ci", Password: "secret"}
	inProcess := func(t servers.TB, login servers.Login) *servers.Registry {
		r, _ := servers.StartRegistryWithReferrers(t, login)
		return r
	}
	for _, c := range []struct {
		name  string
		start func(servers.TB, servers.Login) *servers.Registry
		login servers.Login
		api   int // status of the Referrers API
	}{
		{"distribution", servers.StartRegistry, servers.Login{}, http.StatusNotFound},
		{"distribution with a login", servers.StartRegistry, login, http.StatusNotFound},
		{"referrers", inProcess, servers.Login{}, http.StatusOK},
		{"referrers with a login", inProcess, login, http.StatusOK},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := c.start(t, c.login)
			digest := r.PushImage("team/app", "v1", "content")
			if again := r.PushImage("team/app", "v1", "content"); again != digest {
				t.Errorf("the same image: %s and %s", digest, again)
			}
			if other := r.PushImage("team/app", "v2", "other"); other == digest {
				t.Errorf("another image is %s too", digest)
			}
			if tags := r.Tags("team/app"); !slices.Equal(tags, []string{"v1", "v2"}) {
				t.Errorf("tags %q", tags)
			}
			if n := len(r.Referrers("team/app", digest)); n != 0 {
				t.Errorf("%d referrers of a new image", n)
			}
			url := "http://" + r.Host + "/v2/team/app/referrers/" + digest
			if got := status(t, url, c.login); got != c.api {
				t.Errorf("Referrers API: %d, want %d", got, c.api)
			}
			if c.login != (servers.Login{}) {
				url := "http://" + r.Host + "/v2/team/app/manifests/" + digest
				if got := status(t, url, servers.Login{User: "ci", Password: "wrong"}); got != http.StatusUnauthorized {
					t.Errorf("wrong password: %d", got)
				}
			}
			if r.Process == nil {
				return
			}
			r.Restart()
			if tags := r.Tags("team/app"); len(tags) != 2 {
				t.Errorf("tags after a restart: %q", tags)
			}
			if found := r.Artifacts("team/app"); len(found) != 0 {
				t.Errorf("images taken for artifacts: %q", found)
			}
		})
	}
}

func status(t *testing.T, url string, login servers.Login) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if login != (servers.Login{}) {
		req.SetBasicAuth(login.User, login.Password)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func TestLodgeIsIsolated(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", "/dev/null")
	lodge := servers.NewLodge(t)
	if r := lodge.Run("version"); r.Code != 0 || !strings.HasPrefix(r.Stdout, "lodge ") {
		t.Errorf("version: %+v", r)
	}
	if r := lodge.RunInput(strings.NewReader("{"), "key", "-"); r.Code != 2 || r.Stderr == "" {
		t.Errorf("half an envelope: %+v", r)
	}
	fresh := lodge.Fresh()
	if fresh.State == lodge.State {
		t.Errorf("the same state: %s", fresh.State)
	}
	for _, l := range []*servers.Lodge{lodge, fresh} {
		if r := l.Run("status"); r.Code == 0 || !strings.Contains(r.Stderr, l.State) {
			t.Errorf("status without a store in %s: %+v", l.State, r)
		}
	}
}
