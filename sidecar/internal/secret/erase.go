//go:build goexperiment.runtimesecret && linux && (amd64 || arm64)

package secret

import (
	"runtime"
	"runtime/secret"
)

// Erases is true in a build that overwrites memory after use.
const Erases = true

// CanErase is true on systems for which there is such a build.
const CanErase = true

// Do runs f, and overwrites what f leaves behind in registers and on its stack when it returns. What f allocates is
// overwritten by a garbage collection after its last use, see [Collect].
//
// It does not cover goroutines that f starts. Only a build with GOEXPERIMENT=runtimesecret for linux/amd64 or
// linux/arm64, as releases are, does any of this; elsewhere Do just runs f.
func Do(f func()) { secret.Do(f) }

// Collect overwrites what functions of [Do] have allocated and no variable refers to any more.
func Collect() { runtime.GC() }
