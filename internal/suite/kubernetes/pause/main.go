// Command pause is the first container of each pod in the tests of package kubernetes: it holds the pod's network. It
// never does anything but wait for SIGTERM.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	<-end
}
