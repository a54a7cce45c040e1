package harden

import (
	"os"
	"runtime/debug"
)

const (
	// startGOGC lets the heap grow to 16 MiB, four times what a start allocates: to collect garbage in the middle of a
	// start would only delay the key.
	startGOGC = 400
	// memoryLimit is three times what a sidecar needs between two refreshes.
	memoryLimit = 24 << 20
)

// delayCollection holds until CollectAfterRefreshes. GOGC wins if it is set.
func delayCollection() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(startGOGC)
	}
}

// CollectAfterRefreshes leaves the garbage to secret.Collect, which follows every refresh. Go would also collect it
// every two minutes, and wake up a process that has nothing to do. It still does when there is much garbage, for
// instance after many requests for metrics. GOGC and GOMEMLIMIT win if they are set.
func CollectAfterRefreshes() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
		debug.SetGCPercent(-1)
	}
}
