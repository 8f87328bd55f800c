package servers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	startLimit = 60 * time.Second // a server that isn't ready by then never will be
	stopLimit  = 20 * time.Second // after SIGTERM; SIGKILL follows
)

// errGone says that a server ended while somebody waited for it.
var errGone = errors.New("the server has ended")

// A Process is one running server. Its methods are for one goroutine at a time and end
// the test when they fail.
type Process struct {
	t     TB
	name  string
	path  string
	args  []string
	env   []string
	dir   string
	log   string
	ready func(context.Context) error

	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
}

// start runs the server, waits until it is ready, and stops it at the end of the test.
func (p *Process) start(t TB) *Process {
	t.Helper()
	p.t = t
	p.log = filepath.Join(t.TempDir(), p.name+".log")
	if p.dir == "" {
		p.dir = filepath.Dir(p.log)
	}
	t.Cleanup(func() {
		p.signal(syscall.SIGKILL) // its folder and database are thrown away
		if t.Failed() {
			t.Logf("--- %s (end of its log)\n%s", p.name, tail([]byte(p.Log()), 8<<10))
		}
	})
	p.Start()
	return p
}

// Start starts a server that was stopped or killed, on the same address with the same
// storage, and waits until it is ready.
func (p *Process) Start() {
	p.t.Helper()
	must(p.t, p.spawn(), "starting %s", p.name)
	err := Await(p.t.Context(), startLimit, func(ctx context.Context) error {
		select {
		case <-p.done:
			return errGone
		default:
			return p.ready(ctx)
		}
	})
	if err != nil {
		p.t.Fatalf("starting %s: %v\n%s", p.name, err, tail([]byte(p.Log()), 4<<10))
	}
}

// spawn starts the server from a thread that lives as long as the server does: Linux
// sends the parent death signal when the thread that forked ends, not the process
// (golang.org/issue/27505).
func (p *Process) spawn() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	// It ends by Cleanup; the test's context ends before that.
	cmd := exec.CommandContext(context.WithoutCancel(p.t.Context()), p.path, p.args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = p.dir, p.env, log, log
	cmd.SysProcAttr = dieWithParent()
	started, done := make(chan error), make(chan struct{})
	go func() {
		defer func() { _ = log.Close() }()
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how a server ends is in its log
			close(done)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	p.cmd, p.done = cmd, done
	return nil
}

// Stop ends the server as an operator would (SIGTERM) and waits for its end.
func (p *Process) Stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
}

// Kill ends the server at once (SIGKILL), wherever it is.
func (p *Process) Kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
}

// Restart is Stop and Start.
func (p *Process) Restart() {
	p.t.Helper()
	p.Stop()
	p.Start()
}

// Pause makes the server hang (SIGSTOP): connections are taken and nothing is answered. It
// returns when the server stands still.
func (p *Process) Pause() {
	p.t.Helper()
	must(p.t, p.cmd.Process.Signal(syscall.SIGSTOP), "pausing %s", p.name)
	err := Await(p.t.Context(), stopLimit, func(context.Context) error { return standsStill(p.cmd.Process.Pid) })
	must(p.t, err, "pausing %s", p.name)
}

// Resume lets a paused server go on.
func (p *Process) Resume() {
	p.t.Helper()
	must(p.t, p.cmd.Process.Signal(syscall.SIGCONT), "resuming %s", p.name)
}

// Log returns all that the server has written to its standard output and error.
func (p *Process) Log() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// signal sends s to a server and waits for its end. One that has ended is left alone.
func (p *Process) signal(s syscall.Signal) {
	if p.cmd == nil {
		return
	}
	select {
	case <-p.done:
		return
	default:
	}
	_ = p.cmd.Process.Signal(s) // an error means that it has ended by now
	_ = p.cmd.Process.Signal(syscall.SIGCONT)
	select {
	case <-p.done:
	case <-time.After(stopLimit):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// ports hands out loopback ports, each once per process. They lie below the range that
// systems take the local ports of outgoing connections from, so that a stopped server
// finds its port free again. Each process has a block of them to itself.
var ports struct {
	sync.Mutex
	first int      // of the block; 0: none taken yet
	next  int      // behind first
	lock  *os.File // of the block: a file that nobody refers to is closed
}

const (
	firstPort  = 20000
	portBlock  = 1000 // ports that a process has
	portBlocks = 12
)

// freePort returns a port of 127.0.0.1 on which nobody listens.
func freePort(t TB) int {
	t.Helper()
	l := listenFree(t)
	_, port, err := net.SplitHostPort(l.Addr().String())
	must(t, err, "reading a port")
	n, err := strconv.Atoi(port)
	must(t, err, "reading a port")
	must(t, l.Close(), "closing port %d", n)
	return n
}

// listenFree listens on such a port.
func listenFree(t TB) net.Listener {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	if ports.first == 0 {
		block, err := takeBlock()
		must(t, err, "looking for ports")
		ports.first = firstPort + block*portBlock
	}
	for range portBlock {
		port := ports.first + ports.next%portBlock
		ports.next++
		if l, err := listen(t, port); err == nil {
			return l
		}
	}
	t.Fatalf("no free port between %d and %d", ports.first, ports.first+portBlock)
	return nil
}

// takeBlock returns the number of a block of ports that no other process has. It is given
// back when this process ends.
func takeBlock() (int, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return 0, err
	}
	dir := filepath.Join(cache, "lodge", "e2e")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	for block := range portBlocks {
		f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("ports-%d.lock", block)), os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return 0, err
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			ports.lock = f
			return block, nil
		}
		_ = f.Close()
	}
	return 0, fmt.Errorf("%d processes have taken all ports", portBlocks)
}

// listen takes a port of 127.0.0.1.
func listen(t TB, port int) (net.Listener, error) {
	var c net.ListenConfig
	return c.Listen(t.Context(), "tcp", address(port))
}

// address is the loopback address with a port.
func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// answers tells whether url answers 200.
func answers(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", url, resp.Status)
		}
		return nil
	}
}

// listens tells whether something takes connections at address.
func listens(address string) func(context.Context) error {
	return func(ctx context.Context) error {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return c.Close()
	}
}
