package main

import (
	"errors"

	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/exec"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/supervise"
)

// The exit codes. `exec` ends with CMD's own status, or as a shell would if CMD cannot be started.
const (
	exitDone    = 0 // also after SIGTERM
	exitFailed  = 1
	exitUsage   = 2
	exitRefused = 3 // `once`, `exec`, `rotate`: a retry cannot help until a setting, a permission or the key is changed
)

func exitCode(err error) int {
	if err == nil {
		return exitDone
	}
	if status, ok := errors.AsType[exec.Status](err); ok {
		return int(status)
	}
	if _, ok := errors.AsType[config.UsageError](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[failure.Refused](err); ok {
		return exitRefused
	}
	if e, ok := errors.AsType[*supervise.StartError](err); ok {
		return e.Code
	}
	if e, ok := errors.AsType[exec.StoppedError](err); ok {
		return supervise.ExitSignal + int(e.Signal)
	}
	return exitFailed
}
