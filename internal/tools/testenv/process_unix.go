//go:build unix

package testenv

import (
	"os"
	"os/signal"
	"syscall"
)

func setUmask() { syscall.Umask(0o022) }

// heedHangup makes programs that a test starts end at SIGHUP, also below nohup. There they would inherit that it is
// ignored; a signal that this process catches is not inherited like that. This process goes on.
func heedHangup() {
	if signal.Ignored(syscall.SIGHUP) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
}
