//go:build !windows

package keyfile

import (
	"os"
	"syscall"
)

// open opens a file for reading. O_NONBLOCK: opening a FIFO would block until its other end is open.
func open(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}
