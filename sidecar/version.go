package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
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

func versionCommand([]string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "print the version, and whether this build erases memory",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON {
				return printBuild(cmd.OutOrStdout())
			}
			printVersion(cmd.OutOrStdout())
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document instead of text")
	return cmd
}

func versionPage() page {
	return page{
		about: "version prints the version, the commit, the platform, and whether this build erases keys from memory.",
		examples: `sidecar version

# For a script
sidecar version --json | jq -r .version`,
		more:     "Output:\n  --json                        Print one JSON document instead of text\n",
		document: "secret-hygiene.md",
	}
}

// withVersionFlag lets a command that runs without arguments print the version instead.
func withVersionFlag(cmd *cobra.Command) {
	var wanted bool
	cmd.Flags().BoolVarP(&wanted, "version", "v", false, "print the version")
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !wanted {
			return run(cmd, args)
		}
		printVersion(cmd.OutOrStdout())
		return nil
	}
}

func printVersion(out io.Writer) {
	memory := harden.Memory()
	fmt.Fprintf(out, "snowkey sidecar %s (%s) %s/%s %s, memory %s\n",
		version(), cmp.Or(builtFrom(), "revision unknown"), runtime.GOOS, runtime.GOARCH, runtime.Version(), memory.Says)
	if memory.Advice != "" {
		fmt.Fprintln(out, "advice:", memory.Advice)
	}
}

// printBuild writes the version for programs.
func printBuild(out io.Writer) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(struct {
		Version      string `json:"version"`
		Commit       string `json:"commit,omitempty"`
		Go           string `json:"go"`
		Platform     string `json:"platform"`
		ErasesMemory bool   `json:"erases_memory"`
		Memory       string `json:"memory"`
	}{version(), builtFrom(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, harden.Memory().Holds, harden.Memory().Says})
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
