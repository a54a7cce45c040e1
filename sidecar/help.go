package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/snowkey/snowkey/sidecar/internal/config"
)

// A page is the help of one command. It stands beside the command.
type page struct {
	about    string        // what the command does
	examples string        // a comment, then a command
	settings config.Config // nil for none
	more     string        // after the settings
	document string        // in docs
}

const (
	documents = "https://github.com/snowkey/snowkey/blob/main/docs/"

	precedence     = "A flag wins over its variable. Turn a switch off with =false, as in --verify=false."
	awsEnvironment = "AWS environment:\n" +
		"  AWS_REGION, AWS_ENDPOINT_URL_SSM, HTTPS_PROXY and the credentials (the task role; on a laptop\n" +
		"  AWS_PROFILE) work as in every program with an AWS SDK.\n"
)

// pageOf makes a page when it is read: most processes need none.
func pageOf(command string) page {
	if c, known := commandNamed(command); known {
		return c.page()
	}
	if command == "help" {
		return page{about: "help prints the help of a command.", examples: "sidecar help rotate"}
	}
	return rootPage()
}

func rootPage() page {
	return page{
		about: "sidecar fetches an encrypted Snowflake key from SSM Parameter Store, and keeps it decrypted as a file that other " +
			"programs read. Without a command it does what run does, and takes the flags of run.",
		examples: `# Store a new key, then publish it and keep it fresh
SNOWFLAKE_USER=APP_USER sidecar keygen --put --generate-passphrase \
  --key-parameter /app/key --passphrase-parameter /app/passphrase
sidecar run --key-parameter /app/key --passphrase-parameter /app/passphrase

# Find out what is wrong
sidecar doctor --key-parameter /app/key --passphrase-parameter /app/passphrase`,
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
