package decrypt

import "syscall"

// withoutTerminal starts a program that cannot ask at the terminal.
var withoutTerminal = &syscall.SysProcAttr{CreationFlags: detachedProcess}

const detachedProcess = 0x8 // DETACHED_PROCESS
