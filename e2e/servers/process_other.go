//go:build !linux

package servers

import "syscall"

// dieWithParent has no counterpart here: servers end by Cleanup alone.
func dieWithParent() *syscall.SysProcAttr { return nil }
