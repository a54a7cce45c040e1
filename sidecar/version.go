package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/snowkey/snowkey/sidecar/internal/harden"
)

// Set by the linker in a release; otherwise version reads what the Go toolchain recorded.
var (
	release  string
	revision string
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "print the version, and whether this build erases memory",
		Args:  noArguments,
		Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintf(cmd.OutOrStdout(), "snowkey sidecar %s (%s) %s/%s %s, memory %s\n",
				version(), cmp.Or(builtFrom(), "revision unknown"), runtime.GOOS, runtime.GOARCH, runtime.Version(), harden.Memory())
		},
	}
}

func version() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// builtFrom is the commit, "" if it is not known.
func builtFrom() string {
	if revision != "" {
		return revision
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return ""
}
