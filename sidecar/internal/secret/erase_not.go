//go:build !(goexperiment.runtimesecret && linux && (amd64 || arm64))

package secret

import "runtime"

// Erases is false: this build leaves secrets in memory until it is used again.
const Erases = false

// CanErase is true where a build with GOEXPERIMENT=runtimesecret overwrites memory after use.
const CanErase = runtime.GOOS == "linux" && (runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64")

// Do runs f. In a release it also overwrites what f leaves behind in memory.
func Do(f func()) { f() }

// Collect does nothing here.
func Collect() {}
