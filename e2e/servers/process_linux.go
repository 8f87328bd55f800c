package servers

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// dieWithParent makes the kernel kill a server when this process dies without having
// stopped it: a panic, a time-out of go test, SIGKILL.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// standsStill tells whether all threads of a process are stopped: the signal is under way
// for a while after kill(2) has returned.
func standsStill(pid int) error {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		return fmt.Errorf("no process %d: %w", pid, errGone)
	}
	for _, name := range threads {
		stat, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		// proc_pid_stat(5): the state follows the name, which is in parentheses.
		if state := stat[bytes.LastIndexByte(stat, ')')+1:]; !bytes.HasPrefix(state, []byte(" T")) {
			return fmt.Errorf("%s is in state%.2s", name, state)
		}
	}
	return nil
}
