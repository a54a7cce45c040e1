//go:build unix

package decrypt

import "syscall"

// withoutTerminal starts a program that cannot ask at the terminal.
var withoutTerminal = &syscall.SysProcAttr{Setsid: true}
