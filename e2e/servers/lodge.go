package servers

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// Lodge runs the lodge command with a home, a state and a configuration of its own.
type Lodge struct {
	Path  string
	State string // the folder of its store
	Home  string // also has the docker config: .docker/config.json

	t TB
}

// NewLodge returns a lodge with an empty store. The command is built from this checkout
// once per process; the package's TestMain must call Main.
func NewLodge(t TB) *Lodge {
	t.Helper()
	path, err := builtLodge()
	must(t, err, "building lodge")
	return (&Lodge{Path: path, Home: t.TempDir(), t: t}).Fresh()
}

// Fresh returns a lodge like l with an empty store: another machine, or the next CI job.
func (l *Lodge) Fresh() *Lodge {
	fresh := *l
	fresh.State = filepath.Join(l.t.TempDir(), "lodge") // what lodge adds to XDG_STATE_HOME
	return &fresh
}

// For returns the same lodge, with the same store, as a subtest uses it.
func (l *Lodge) For(t TB) *Lodge {
	same := *l
	same.t = t
	return &same
}

// Command returns lodge with args, ready to be started. Its end is the end of ctx.
func (l *Lodge) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, l.Path, args...)
	cmd.Dir = l.Home
	cmd.Env = environ([]string{"LODGE_*", "DOCKER_*", "REGISTRY_AUTH_FILE", "XDG_*", "HOME"},
		"HOME="+l.Home, "XDG_STATE_HOME="+filepath.Dir(l.State), "DOCKER_CONFIG="+filepath.Join(l.Home, ".docker"))
	return cmd
}

// Run runs lodge with args.
func (l *Lodge) Run(args ...string) Result {
	l.t.Helper()
	return l.RunInput(nil, args...)
}

// RunInput runs lodge with args and a standard input.
func (l *Lodge) RunInput(stdin io.Reader, args ...string) Result {
	l.t.Helper()
	ctx, cancel := runContext(l.t)
	defer cancel()
	return run(l.t, l.Command(ctx, args...), stdin)
}

// Start starts lodge with args and lets it run beside the test: a daemon, or a push that is
// to be ended in the middle. Its log holds both of its outputs.
func (l *Lodge) Start(args ...string) *Process {
	l.t.Helper()
	cmd := l.Command(l.t.Context(), args...)
	return (&Process{
		name:  "lodge-" + args[0],
		path:  cmd.Path,
		args:  args,
		env:   cmd.Env,
		dir:   cmd.Dir,
		ready: func(context.Context) error { return nil }, // nothing to wait for
	}).start(l.t)
}

// Ended is closed when a process has ended, however it did.
func (p *Process) Ended() <-chan struct{} { return p.done }

// Code is the exit status of a process that has ended, -1 where a signal ended it.
func (p *Process) Code() int {
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// LogIn lets lodge use a login at a registry.
func (l *Lodge) LogIn(host string, login Login) {
	l.t.Helper()
	writeDockerConfig(l.t, filepath.Join(l.Home, ".docker"), host, login)
}

// builtLodge builds lodge at the first call.
var builtLodge = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "lodge-e2e-")
	if err != nil {
		return "", err
	}
	lodgeDir = dir
	path := filepath.Join(dir, "lodge")
	return path, BuildLodge(context.Background(), path)
})

// lodgeDir is where builtLodge put lodge.
var lodgeDir string

func removeLodge() {
	if lodgeDir != "" {
		_ = os.RemoveAll(lodgeDir)
	}
}

// BuildLodge builds lodge from the checkout that the working directory is in.
func BuildLodge(ctx context.Context, path string) error {
	root, err := moduleRoot("github.com/lodgehq/lodge")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "./cmd/lodge")
	cmd.Dir = root
	cmd.Env = environ([]string{"GOOS", "GOARCH"}, "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, tail(out, 4<<10))
	}
	return nil
}

// moduleRoot finds the folder above the working directory that holds a module.
func moduleRoot(module string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(b), "module "+module+"\n") {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("not in a checkout of %s", module)
		}
		dir = up
	}
}
