package servers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Cosign runs the cosign command with a home of its own and no service of the internet.
type Cosign struct {
	Path string
	Home string // also has the docker config: .docker/config.json

	t TB
}

// NewCosign builds cosign where the cache has it not.
func NewCosign(t TB) *Cosign {
	t.Helper()
	return &Cosign{Path: install(t, CosignCLI), Home: t.TempDir(), t: t}
}

// For returns the same cosign, with the same home, as a subtest uses it.
func (c *Cosign) For(t TB) *Cosign {
	same := *c
	same.t = t
	return &same
}

// Run runs cosign with args.
func (c *Cosign) Run(args ...string) Result {
	c.t.Helper()
	ctx, cancel := runContext(c.t)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.Path, args...)
	cmd.Dir = c.Home
	cmd.Env = environ([]string{"COSIGN_*", "SIGSTORE_*", "TUF_*", "DOCKER_*", "XDG_*", "HOME"},
		"HOME="+c.Home, "COSIGN_PASSWORD=", "DOCKER_CONFIG="+filepath.Join(c.Home, ".docker"))
	return run(c.t, cmd, nil)
}

// LogIn lets cosign use a login at a registry.
func (c *Cosign) LogIn(host string, login Login) {
	c.t.Helper()
	writeDockerConfig(c.t, filepath.Join(c.Home, ".docker"), host, login)
}

// TrustedRoot writes a trusted root with these logs and nothing else, and returns its path.
func (c *Cosign) TrustedRoot(logs ...interface{ CosignFlag() string }) string {
	c.t.Helper()
	out := filepath.Join(c.t.TempDir(), "trusted_root.json")
	args := []string{"trusted-root", "create", "--out", out}
	for _, log := range logs {
		args = append(args, "--rekor", log.CosignFlag())
	}
	c.must(args)
	return out
}

// SigningConfig writes a signing configuration with one log and returns its path.
// apiVersion is 1 or 2.
func (c *Cosign) SigningConfig(logURL string, apiVersion int) string {
	c.t.Helper()
	out := filepath.Join(c.t.TempDir(), "signing_config.json")
	c.must([]string{"signing-config", "create", "--out", out, "--rekor-config", "ANY", "--rekor",
		fmt.Sprintf("url=%s,api-version=%d,start-time=2024-01-01T00:00:00Z,operator=test", logURL, apiVersion)})
	return out
}

// VerifyAttestation runs `cosign verify-attestation` on an image by digest. kind is what
// --type takes: best the predicate type in full, for cosign's short name openvex means
// https://openvex.dev/ns without a version and does not match https://openvex.dev/ns/v0.2.0.
func (c *Cosign) VerifyAttestation(image, publicKey, kind, trustedRoot string) Result {
	c.t.Helper()
	return c.Run("verify-attestation", "--key", publicKey, "--type", kind, "--trusted-root", trustedRoot, image)
}

func (c *Cosign) must(args []string) {
	c.t.Helper()
	if r := c.Run(args...); r.Code != 0 {
		c.t.Fatalf("cosign %q: exit status %d\n%s%s", args, r.Code, r.Stdout, r.Stderr)
	}
}

func writeDockerConfig(t TB, dir, host string, login Login) {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o700), "making %s", dir)
	file := filepath.Join(dir, "config.json")
	must(t, os.WriteFile(file, login.DockerConfig(host), 0o600), "writing %s", file)
}
