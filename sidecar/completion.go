package main

import (
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/snowkey/snowkey/sidecar/internal/config"
)

// shells are those that cobra writes scripts for.
var shells = []string{"bash", "zsh", "fish", "powershell"}

// completionCommand stands in for cobra's own, which makes a command for each shell at every start.
func completionCommand([]string) *cobra.Command {
	return &cobra.Command{
		Use:       "completion SHELL",
		Short:     "print the completion script for bash, zsh, fish or powershell",
		ValidArgs: shells,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || cobra.OnlyValidArgs(cmd, args) != nil {
				return config.UsageError{Err: errors.New("name the shell: sidecar completion " + strings.Join(shells, "|"))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return writeCompletion(cmd.Root(), args[0], cmd.OutOrStdout())
		},
	}
}

func completionPage() page {
	return page{
		about: "completion prints a script for your shell, which then completes commands, flags and fixed values.",
		examples: `# bash, in this shell; for every shell put it into ~/.bashrc
source <(sidecar completion bash)

# zsh: a directory of $fpath
sidecar completion zsh > "${fpath[1]}/_sidecar"

# fish
sidecar completion fish > ~/.config/fish/completions/sidecar.fish

# PowerShell, in your profile
sidecar completion powershell | Out-String | Invoke-Expression`,
		document: "configuration.md",
	}
}

func writeCompletion(root *cobra.Command, shell string, out io.Writer) error {
	switch shell {
	case "bash":
		return root.GenBashCompletionV2(out, true)
	case "zsh":
		return root.GenZshCompletion(out)
	case "fish":
		return root.GenFishCompletion(out, true)
	default:
		return root.GenPowerShellCompletionWithDesc(out)
	}
}

// completes reports whether a shell asks for completions.
func completes(args []string) bool {
	return len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd)
}

// prepareCompletion says what the arguments and flags of each command can be.
func prepareCompletion(root *cobra.Command) {
	for _, cmd := range slices.Concat(root.Commands(), []*cobra.Command{root}) {
		if cmd.ValidArgs == nil && cmd.Name() != "exec" { // whose CMD is a file
			cmd.ValidArgsFunction = cobra.NoFileCompletions
		}
		settings := pageOf(cmd.Name()).settings
		if cmd == root {
			settings = new(config.RunConfig)
		}
		if settings == nil {
			continue
		}
		values := config.Values(settings)
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			f.Usage = strings.ReplaceAll(f.Usage, "`", "")
			var err error
			switch {
			case f.Name == "dir":
				err = cmd.MarkFlagDirname(f.Name)
			case f.Value.Type() != "path":
				err = cmd.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(values[f.Name], cobra.ShellCompDirectiveNoFileComp))
			}
			if err != nil {
				panic(err) // a flag of cmd exists, and has none yet
			}
		})
	}
}
