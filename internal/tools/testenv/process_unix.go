//go:build unix

package testenv

import (
	"os"
	"os/signal"
	"syscall"
)

func setUmask() { syscall.Umask(0o022) }

// heedHangup has programs that a test starts end at SIGHUP also below nohup, where they would inherit that it is ignored.
// A signal that is caught is not: this process goes on.
func heedHangup() {
	if signal.Ignored(syscall.SIGHUP) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
}
