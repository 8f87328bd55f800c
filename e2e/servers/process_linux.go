package servers

import "syscall"

// dieWithParent makes the kernel kill a server when this process dies without having
// stopped it: a panic, a time-out of go test, SIGKILL.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
