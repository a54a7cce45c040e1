//go:build !windows

package keygen

const (
	terminalInput  = "/dev/tty"
	terminalOutput = "/dev/tty"
)
