//go:build goexperiment.runtimesecret

package secret

import (
	"runtime"
	"runtime/secret"
)

// Do runs f, and what f leaves behind in registers and on its stack is overwritten when it returns. What
// it allocates is overwritten when it is no longer in use, as Collect has it noticed.
//
// Goroutines that f starts are not part of it. Only a build with GOEXPERIMENT=runtimesecret, as releases
// are, does any of this, on linux/amd64 and linux/arm64; elsewhere Do just runs f.
func Do(f func()) { secret.Do(f) }

// Collect overwrites what f of Do has allocated and nobody uses any more.
func Collect() { runtime.GC() }
