package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/snowkey/snowkey/sidecar/internal/config"
)

// printed is what the program prints, run in this process.
func printed(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = execute(args, nil, &out, &errOut)
	return code, out.String(), errOut.String()
}

// allCommands are those that a user sees, with the one that goes without a name.
func allCommands() []*cobra.Command {
	root := rootCommand(nil, nil)
	root.InitDefaultHelpCmd()
	return append([]*cobra.Command{root}, root.Commands()...)
}

func TestHelp_FitsAndLinksADocument(t *testing.T) {
	link := regexp.MustCompile(`(?m)^Documentation: ` + regexp.QuoteMeta(documents) + `(\S*)$`)
	for _, cmd := range allCommands() {
		t.Run(cmd.Name(), func(t *testing.T) {
			help := helpOf(cmd)
			for line := range strings.Lines(help) {
				if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > config.HelpWidth {
					t.Errorf("%d columns: %s", n, line)
				}
			}
			if !strings.Contains(help, "\nExamples:\n") {
				t.Errorf("no examples:\n%s", help)
			}
			found := link.FindStringSubmatch(help)
			if found == nil {
				t.Fatalf("no link:\n%s", help)
			}
			if _, err := os.Stat(filepath.Join("..", "docs", found[1])); err != nil {
				t.Error(err)
			}
		})
	}
}

// An example is a command line in a help.
type example struct {
	environ []string
	args    []string // after sidecar
}

// examplesOf reads a help's examples as a shell does, as far as they need it.
func examplesOf(text string) (all []example) {
	text = strings.ReplaceAll(text, "\\\n", " ")
	words := regexp.MustCompile(`'[^']*'|"[^"]*"|\S+`)
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var e example
		command := words.FindAllString(strings.NewReplacer("<(", " ", ")", " ").Replace(line), -1)
		for i := range command {
			command[i] = strings.Trim(command[i], `"'`)
		}
		for i, word := range command {
			switch {
			case word == "sidecar":
				e.args = command[i+1:]
				if end := slices.IndexFunc(e.args, func(w string) bool { return w == "|" || w == ">" }); end >= 0 {
					e.args = e.args[:end]
				}
				all = append(all, e)
			case e.args == nil && regexp.MustCompile(`^[A-Z_]+=`).MatchString(word):
				e.environ = append(e.environ, word)
			}
		}
	}
	return all
}

func TestHelp_EveryExampleIsValid(t *testing.T) {
	for _, of := range allCommands() {
		t.Run(of.Name(), func(t *testing.T) {
			examples := examplesOf(pageOf(of.Name()).examples)
			if len(examples) == 0 {
				t.Error("none")
			}
			for _, e := range examples {
				if err := e.check(of.Name()); err != nil {
					t.Errorf("sidecar %s: %v", strings.Join(e.args, " "), err)
				}
			}
		})
	}
}

// check does with an example what the program does before it begins to work.
func (e example) check(of string) error {
	root := rootCommand(nil, nil)
	root.InitDefaultHelpCmd()
	cmd, args, err := root.Find(e.args)
	if err != nil {
		return err
	}
	if cmd == root || of != "sidecar" && cmd.Name() != of {
		return errors.New("it is of another command")
	}
	if cmd.Name() == "help" {
		_, _, err := root.Find(args)
		return err
	}
	if err := cmd.ParseFlags(args); err != nil {
		return err
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		return err
	}
	settings := pageOf(cmd.Name()).settings
	if settings == nil {
		return nil
	}
	// What an example leaves to the environment around it.
	environ := append([]string{"SNOWFLAKE_ACCOUNT=ORGANIZATION-NAME", "SNOWFLAKE_USER=APP_USER"}, e.environ...)
	if len(args) == 0 && cmd.Name() != "keygen" {
		environ = append(environ, "SNOWKEY_KEY_PARAMETER=/app/key")
	}
	return config.Load(settings, cmd.Flags(), environ)
}

func TestHelp_ExamplesThatAreWrongAreFound(t *testing.T) {
	for _, wrong := range []string{"sidecar nun", "sidecar run --key-parameter /k --intervall 5m", "sidecar run --key-parameter /k --interval soon", "SNOWKEY_INTERVALL=5m sidecar run"} {
		for _, e := range examplesOf(wrong) {
			if e.check("run") == nil {
				t.Errorf("%s is accepted", wrong)
			}
		}
	}
}

func TestArguments_ErrorsSayWhatToWrite(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"keygen", "mykey"}, "sidecar: keygen takes no arguments, only flags; sidecar keygen --help lists them"},
		{[]string{"run", "run"}, "sidecar: run takes no arguments"},
		{[]string{"once", "--require-tmpfs", "false"}, "once takes no arguments; write --require-tmpfs=false"},
		{[]string{"--require-tmpfs", "false"}, "write --require-tmpfs=false"},
		{[]string{"frobnicate"}, "no such command; sidecar --help lists the commands"},
		{[]string{"doctro"}, "did you mean sidecar doctor?"},
		{[]string{"-x"}, "no such flag: -x; sidecar run --help lists the flags"},
		{[]string{"once", "-v"}, "no such flag: -v; sidecar once --help lists the flags"},
		{[]string{"run", "--intervall=5m"}, "no such flag: --intervall; did you mean --interval?; sidecar run --help"},
		{[]string{"run", "--=x"}, "malformed flag: write --name value"},
		{[]string{"completion", "tcsh"}, "name the shell: sidecar completion bash|zsh|fish|powershell"},
		{[]string{"completion"}, "name the shell"},
	} {
		code, _, said := printed(t, tc.args...)
		if code != exitUsage || !strings.Contains(said, tc.want) {
			t.Errorf("%v: exit code %d, %q lacks %q", tc.args, code, said, tc.want)
		}
	}
}

func TestCompletion_WritesAScriptForEachShell(t *testing.T) {
	for _, shell := range shells {
		code, script, _ := printed(t, "completion", shell)
		if code != exitDone || !strings.Contains(script, "__complete") || !strings.Contains(script, "sidecar") {
			t.Errorf("%s: exit code %d, %d bytes", shell, code, len(script))
		}
	}
}

func TestCompletion_OffersFixedValues(t *testing.T) {
	for _, tc := range []struct{ line, want string }{
		{"exec --on-change ", "restart"},
		{"--verify-unreachable ", "publish"},
		{"run --log-format ", "json"},
		{"run --formats ", "pem.b64"},
		{"keygen --bits ", "4096"},
		{"rot", "rotate"},
		{"completion ", "powershell"},
		{"run --requ", "--require-tmpfs"},
	} {
		words := append([]string{cobra.ShellCompNoDescRequestCmd}, strings.Split(tc.line, " ")...)
		code, out, _ := printed(t, words...)
		if code != exitDone || !slices.Contains(strings.Split(out, "\n"), tc.want) {
			t.Errorf("%q: exit code %d, %q lacks %q", tc.line, code, out, tc.want)
		}
	}
}

func TestVersion_AsFlagAndAsJSON(t *testing.T) {
	_, text, _ := printed(t, "version")
	for _, flag := range []string{"--version", "-v"} {
		if code, out, said := printed(t, flag); code != exitDone || out != text {
			t.Errorf("%s: exit code %d, %q, %q", flag, code, out, said)
		}
	}
	code, out, _ := printed(t, "version", "--json")
	var build struct {
		Version, Go, Platform, Memory string
		ErasesMemory                  *bool `json:"erases_memory"`
	}
	if err := json.Unmarshal([]byte(out), &build); err != nil || code != exitDone || build.ErasesMemory == nil {
		t.Fatalf("%s: %v", out, err)
	}
	for _, value := range []string{build.Version, build.Go, build.Platform, build.Memory} {
		if value == "" || !strings.Contains(text, value) {
			t.Errorf("%q is not in %q", value, text)
		}
	}
}
