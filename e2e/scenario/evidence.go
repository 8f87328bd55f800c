package scenario

import (
	"context"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/lodgehq/lodge/e2e/servers"
)

// EvidenceOffline has the evidence of an envelope verified without a network, by lodge and
// by hand as docs/evidence.md has it.
func EvidenceOffline(t *testing.T, s *Site, guide string) {
	tsa := servers.StartTimestampAuthority(t)
	m := s.machine()
	m.config.TSA = []string{tsa.URL}
	m.config.Evidence = &evidenceConfig{Directory: filepath.Join(t.TempDir(), "evidence")}
	d := m.push(s.signed(s.statement(1)))[0]
	file := filepath.Join(t.TempDir(), "one.evidence.tar")
	if r := m.Run("evidence", d.Key, "-o", file); r.Code != 0 {
		t.Fatalf("lodge evidence: exit status %d\n%s", r.Code, r.Stderr)
	}
	t.Run("archived", func(t *testing.T) { s.in(t).archived(m, d.Key, file) })
	key, origin := s.Log.Trust()
	verify := []string{m.Path, "verify", file, "--key", s.Signer.Public, "--log-key", key, "--log-origin", origin}
	s.Log.Stop()
	tsa.Stop()
	t.Run("verified", func(t *testing.T) {
		out := offline(t, t.TempDir(), verify...)
		if !strings.Contains(out, "verified: key "+d.Key) || !strings.Contains(out, "inclusion proven") {
			t.Errorf("%s", out)
		}
	})
	t.Run("by hand", func(t *testing.T) {
		for _, tool := range []string{"tar", "sha256sum", "jq", "openssl"} {
			servers.Need(t, tool)
		}
		steps := regexp.MustCompile("(?s)```sh\n(.*?)```").FindSubmatch(s.in(t).readFile(guide))
		if steps == nil {
			t.Fatalf("%s has no steps", guide)
		}
		dir := t.TempDir()
		var chain []byte
		for _, c := range tsa.Chain {
			chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
		}
		if err := os.WriteFile(filepath.Join(dir, "tsa-chain.pem"), chain, 0o600); err != nil {
			t.Fatal(err)
		}
		out := offline(t, dir, "sh", "-euc", strings.ReplaceAll(string(steps[1]), "FILE", file))
		for _, want := range []string{"1/envelope.json: OK", "Verified OK", strings.TrimPrefix(d.Receipt.Log.LeafHash, "sha256:"), "Verification: OK",
			d.Receipt.Log.InclusionProof.Checkpoint} {
			if !strings.Contains(out, want) {
				t.Errorf("no %q in:\n%s", want, out)
			}
		}
	})
}

// archived waits until lodge serve has written the same bytes into its folder.
func (s *Site) archived(m *machine, key, file string) {
	s.t.Helper()
	serve := m.For(s.t).Start("serve", "--config", s.write("lodge.yaml", s.encode(m.config)))
	defer serve.Stop()
	want := s.readFile(file)
	err := servers.Await(s.t.Context(), time.Minute, func(context.Context) error {
		_, err := os.Stat(filepath.Join(m.config.Evidence.Directory, strings.TrimPrefix(key, "sha256:")+".evidence.tar"))
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if got := s.readFile(filepath.Join(m.config.Evidence.Directory, strings.TrimPrefix(key, "sha256:")+".evidence.tar")); string(got) != string(want) {
		s.t.Error("it is not what lodge evidence gives")
	}
}

// offline runs a command in a network namespace of its own, where nothing can be reached, and
// returns what it printed.
func offline(t *testing.T, dir string, command ...string) string {
	t.Helper()
	servers.Need(t, "unshare", "-rn", "true")
	cmd := exec.CommandContext(t.Context(), "unshare", append([]string{"-rn"}, command...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%q: %v\n%s", command, err, out)
	}
	return string(out)
}
