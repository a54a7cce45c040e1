//go:build !linux

package harden

const closedFromStart = false

func closeMemory() {}

// ForbidCore does nothing on this system.
func ForbidCore() {}

func environmentBlock() []byte { return nil }
