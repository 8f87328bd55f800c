//go:build !linux

package servers

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// dieWithParent has no counterpart here: servers end by Cleanup alone.
func dieWithParent() *syscall.SysProcAttr { return nil }

// standsStill tells whether a process is stopped: the signal is under way for a while
// after kill(2) has returned.
func standsStill(pid int) error {
	state, err := exec.CommandContext(context.Background(), "ps", "-o", "state=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return err
	}
	if !strings.HasPrefix(strings.TrimSpace(string(state)), "T") {
		return fmt.Errorf("process %d is in state %s", pid, state)
	}
	return nil
}
