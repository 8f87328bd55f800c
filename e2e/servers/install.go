package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A Program is a main package of the module proxy in one exact version.
type Program struct {
	Name    string // of the folder in the cache: several programs of a module share it
	Package string
	Version string
}

// The programs that this package runs.
var (
	RekorTiles        = Program{"rekor-tiles", "github.com/sigstore/rekor-tiles/v2/cmd/rekor-server/posix", "v2.3.0"}
	Distribution      = Program{"registry", "github.com/distribution/distribution/v3/cmd/registry", "v3.1.2"}
	RekorServer       = Program{"rekor", "github.com/sigstore/rekor/cmd/rekor-server", "v1.5.4"}
	TrillianLogServer = Program{"trillian", trillian + "/cmd/trillian_log_server", trillianVersion}
	TrillianLogSigner = Program{"trillian", trillian + "/cmd/trillian_log_signer", trillianVersion}
	TrillianTree      = Program{"trillian", trillian + "/cmd/createtree", trillianVersion}
	// v2.1.4 and later ask for Go 1.27.
	TimestampServer = Program{"timestamp-authority", "github.com/sigstore/timestamp-authority/v2/cmd/timestamp-server", "v2.1.3"}
	CosignCLI       = Program{"cosign", "github.com/sigstore/cosign/v3/cmd/cosign", "v3.1.3"}
)

const (
	trillian        = "github.com/google/trillian"
	trillianVersion = "v1.8.0"
)

func (p Program) String() string { return path.Base(p.Package) + "@" + p.Version }

// Install returns the path of the program's binary and builds it where the cache has it
// not yet. Processes that want the same program wait for each other. Building is reported
// to progress, since it takes minutes.
func (p Program) Install(ctx context.Context, progress func(format string, args ...any)) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "lodge", "e2e", p.Name+"@"+p.Version)
	binary := filepath.Join(dir, path.Base(p.Package))
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(ctx, binary+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(binary); err == nil { // built while we waited
		return binary, nil
	}
	start := time.Now()
	progress("building %s (once; this can take minutes)", p)
	if err := p.build(ctx, dir, binary); err != nil {
		return "", fmt.Errorf("building %s: %w", p, err)
	}
	progress("built %s in %s", p, time.Since(start).Round(time.Second))
	return binary, nil
}

// build puts the binary in its place by a rename, so that nobody ever runs half of one.
func (p Program) build(ctx context.Context, dir, binary string) error {
	tmp, err := os.MkdirTemp(dir, ".build-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	cmd := exec.CommandContext(ctx, "go", "install", p.Package+"@"+p.Version)
	cmd.Dir = tmp // outside of any module
	cmd.Env = environ([]string{"GOFLAGS", "GOOS", "GOARCH"},
		"GOFLAGS="+goflags(), "GOWORK=off", "GO111MODULE=on", "CGO_ENABLED=0", "GOBIN="+tmp)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, tail(out, 4<<10))
	}
	return os.Rename(filepath.Join(tmp, filepath.Base(binary)), binary)
}

// goflags is GOFLAGS without the flags that only make sense inside a module.
func goflags() string {
	var flags []string
	for _, f := range strings.Fields(os.Getenv("GOFLAGS")) {
		if !strings.HasPrefix(strings.TrimLeft(f, "-"), "mod") {
			flags = append(flags, f)
		}
	}
	return strings.Join(flags, " ")
}

// lock takes an exclusive lock on a file, across processes. The kernel drops it when the
// process ends, however it does.
func lock(ctx context.Context, name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = f.Close()
			return nil, fmt.Errorf("locking %s: %w", name, err)
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

// install is Install for a test.
func install(t TB, p Program) string {
	t.Helper()
	binary, err := p.Install(t.Context(), t.Logf)
	must(t, err, "installing %s", p)
	return binary
}

// tail returns the last n bytes of b.
func tail(b []byte, n int) []byte {
	if len(b) > n {
		b = b[len(b)-n:]
	}
	return b
}
