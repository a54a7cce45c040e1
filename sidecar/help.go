package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/snowkey/snowkey/sidecar/internal/config"
)

// A page is the help of one command.
type page struct {
	about    string        // what the command does
	examples string        // a comment, then a command
	settings config.Config // nil for none
	more     string        // after the settings
	document string        // in docs
}

const (
	documents = "https://github.com/snowkey/snowkey/blob/main/docs/"

	precedence     = "A flag wins over its variable. To turn off a switch, write =false directly behind it."
	awsEnvironment = "AWS environment:\n" +
		"  AWS_REGION, the credentials (the task role; on a laptop AWS_PROFILE), AWS_ENDPOINT_URL_SSM,\n" +
		"  HTTPS_PROXY and the like are those of every program with an AWS SDK.\n"
)

// pageOf makes a page when it is read: most processes need none.
func pageOf(command string) page {
	switch command {
	case "run":
		return page{
			about: "run publishes the key as files, checks Parameter Store for a new one every --interval, and goes on until SIGTERM. " +
				"It is what sidecar does without a command.",
			examples: `# Keep the key fresh in /run/snowflake, as a task definition's environment would
SNOWKEY_KEY_PARAMETER=/app/key SNOWKEY_PASSPHRASE_PARAMETER=/app/passphrase sidecar run

# The same by flags, in another directory, with Prometheus metrics on loopback
sidecar run --key-parameter /app/key --passphrase-parameter /app/passphrase \
  --dir /tmp/snowflake --metrics-addr :9090

# Try a new key at Snowflake before it replaces the published one
SNOWFLAKE_ACCOUNT=ORGANIZATION-NAME SNOWFLAKE_USER=APP_USER \
  sidecar run --key-parameter /app/key --passphrase-parameter /app/passphrase --verify`,
			settings: new(config.RunConfig), more: awsEnvironment, document: "configuration.md",
		}
	case "once":
		return page{
			about: "once publishes the key as files, prints its fingerprint, and exits. Status 3 means that a retry cannot help.",
			examples: `# Publish the key of two parameters
sidecar once --key-parameter /app/key --passphrase-parameter /app/passphrase

# Only the PEM, in a directory of your own
sidecar once --key-parameter /app/key --passphrase-parameter /app/passphrase \
  --dir "$HOME/snowflake" --formats pem --file-mode 0400`,
			settings: new(config.OnceConfig), more: awsEnvironment, document: "configuration.md",
		}
	case "exec":
		return page{
			about: "exec publishes the key, then runs CMD, and keeps the files fresh until CMD ends. It passes signals on, " +
				"collects orphans, and exits with CMD's status. Without a key it does not start CMD.",
			examples: `# Run a program in the same container, with the key on its tmpfs
sidecar exec --key-parameter /app/key --passphrase-parameter /app/passphrase -- python app.py

# Give up after two minutes without a key; restart the program when the key changes
sidecar exec --key-parameter /app/key --passphrase-parameter /app/passphrase \
  --start-timeout 2m --on-change restart -- python app.py`,
			settings: new(config.ExecConfig), more: awsEnvironment, document: "exec.md",
		}
	case "healthcheck":
		return page{
			about: "healthcheck exits with 0 while the directory has a valid key, and with 1 otherwise. It reads the disk only, never AWS, " +
				"and prints why the last refresh failed; on a terminal also the published key. The flags of run are accepted and ignored.",
			examples: `# In a task definition: "healthCheck": {"command": ["CMD", "/sidecar", "healthcheck"]}
sidecar healthcheck

# One of several keys
sidecar healthcheck --dir /run/snowflake/etl`,
			settings: new(config.HealthcheckConfig), document: "operations.md",
		}
	case "doctor":
		return page{
			about: "doctor checks everything between the parameters and the login to Snowflake, and prints a fix for each problem. " +
				"It changes nothing, and exits with 1 if a check failed. Give it the settings that the sidecar has.",
			examples: `# In the sidecar's container, whose environment has the settings
sidecar doctor

# On a laptop
SNOWFLAKE_ACCOUNT=ORGANIZATION-NAME SNOWFLAKE_USER=APP_USER \
  sidecar doctor --key-parameter /app/key --passphrase-parameter /app/passphrase

# Only what failed
sidecar doctor --json --key-parameter /app/key | jq '.checks[] | select(.state == "fail")'`,
			settings: new(config.DoctorConfig), more: awsEnvironment, document: "troubleshooting.md",
		}
	case "keygen":
		return page{
			about: "keygen makes an RSA key, writes it encrypted into files or, with --put, into Parameter Store, and prints its public " +
				"key with the ALTER USER statement that assigns it.",
			examples: `# Into Parameter Store, with a generated passphrase and no file
SNOWFLAKE_USER=APP_USER sidecar keygen --put --generate-passphrase --kms-key alias/app \
  --key-parameter /app/key --passphrase-parameter /app/passphrase

# Into rsa_key.p8 and rsa_key.pub; the terminal asks for a passphrase
sidecar keygen`,
			settings: new(config.KeygenConfig), more: awsEnvironment, document: "configuration.md",
		}
	case "rotate":
		return page{
			about: "rotate makes a new key, assigns it in Snowflake beside the old one, stores it as the parameter's next version, waits for " +
				"the grace period in which the tasks switch, and removes the old one. After an interruption run it again.\n\n" +
				"Each step is a line on stderr. The summary is one line of JSON on stdout.",
			examples: `# The login of all examples
export SNOWFLAKE_ACCOUNT=ORGANIZATION-NAME SNOWFLAKE_USER=APP_USER

# Print the plan, change nothing
sidecar rotate --key-parameter /app/key --passphrase-parameter /app/passphrase --dry-run

# Every day from a scheduler: rotate a key that is older than 30 days
sidecar rotate --key-parameter /app/key --passphrase-parameter /app/passphrase --max-age 30d

# The key has leaked: replace it now, and when the tasks have switched, lock the old one out
sidecar rotate --key-parameter /app/key --passphrase-parameter /app/passphrase \
  --force-new --no-wait
sidecar rotate --key-parameter /app/key --passphrase-parameter /app/passphrase \
  --finish --revoke-old`,
			settings: new(config.RotateConfig), more: awsEnvironment, document: "rotation.md",
		}
	case "version":
		return page{
			about: "version prints the version, the commit, the platform, and whether this build erases keys from memory.",
			examples: `sidecar version

# For a script
sidecar version --json | jq -r .version`,
			more:     "Output:\n  --json                        Print one JSON document instead of text\n",
			document: "secret-hygiene.md",
		}
	case "completion":
		return page{
			about: "completion prints the script with which a shell completes commands, flags, and the values of flags that have fixed ones.",
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
	case "help":
		return page{about: "help prints the help of a command.", examples: "sidecar help rotate", document: ""}
	default:
		return page{
			about: "sidecar fetches an encrypted Snowflake key from SSM Parameter Store, and keeps it decrypted as a file that other " +
				"programs read. Without a command it does what run does, and takes the flags of run.",
			examples: `# Store a new key, then publish it and keep it fresh
SNOWFLAKE_USER=APP_USER sidecar keygen --put --generate-passphrase \
  --key-parameter /app/key --passphrase-parameter /app/passphrase
sidecar run --key-parameter /app/key --passphrase-parameter /app/passphrase

# Find out what is wrong
sidecar doctor --key-parameter /app/key --passphrase-parameter /app/passphrase`,
			document: "",
		}
	}
}

// helpOf is what --help prints.
func helpOf(cmd *cobra.Command) string {
	p := pageOf(cmd.Name())
	var b strings.Builder
	b.WriteString(config.Wrap(p.about, 0))
	fmt.Fprintf(&b, "\nUsage:\n  %s\n", usageLine(cmd))
	if cmd.HasAvailableSubCommands() {
		listCommands(&b, cmd)
	}
	b.WriteString("\nExamples:\n")
	for line := range strings.Lines(p.examples) {
		b.WriteString(strings.TrimRight("  "+line, " \n") + "\n")
	}
	b.WriteByte('\n')
	if p.settings != nil {
		b.WriteString(config.Help(p.settings))
	}
	if p.more != "" {
		b.WriteString(p.more + "\n")
	}
	if p.settings != nil {
		b.WriteString(precedence + "\n")
	}
	if cmd.HasAvailableSubCommands() {
		b.WriteString("sidecar COMMAND --help lists the settings of a command, and sidecar --version prints the version.\n")
	}
	fmt.Fprintf(&b, "Documentation: %s%s\n", documents, p.document)
	return b.String()
}

func usageLine(cmd *cobra.Command) string {
	if cmd.HasAvailableSubCommands() {
		return cmd.Name() + " [COMMAND] [flags]"
	}
	line := cmd.UseLine()
	if cmd.HasAvailableFlags() && !strings.Contains(line, "[flags]") {
		line += " [flags]"
	}
	return line
}

func listCommands(b *strings.Builder, root *cobra.Command) {
	for _, g := range root.Groups() {
		fmt.Fprintf(b, "\n%s:\n", g.Title)
		for _, c := range root.Commands() {
			if c.GroupID == g.ID {
				fmt.Fprintf(b, "  %-12s %s\n", c.Name(), strings.ToLower(c.Short[:1])+c.Short[1:])
			}
		}
	}
}
