//go:build !linux

package publish

import "os"

// Containers run Linux. Elsewhere, on a developer's machine, the type of a filesystem is not known.

// Filesystem is "unknown" here.
func Filesystem(string) string { return "unknown" }

func filesystemOf(*os.Root) string { return "unknown" }

// InMemory is not known here.
func InMemory(string) bool { return false }

func cannotSync(error) bool { return true }
