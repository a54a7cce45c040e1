package config

import (
	"fmt"
	"strings"
)

// A topic is a heading in the help of a command.
type topic string

// The topics.
const (
	topicKey       topic = "Key"
	topicFiles     topic = "Files"
	topicRefresh   topic = "Refresh"
	topicCommand   topic = "CMD"
	topicRotation  topic = "Rotation"
	topicNewKey    topic = "New key"
	topicStore     topic = "Parameter Store"
	topicSnowflake topic = "Snowflake"
	topicLog       topic = "Log and metrics"
	topicOutput    topic = "Output"
)

// topics is their order.
var topics = [...]topic{topicKey, topicFiles, topicRefresh, topicCommand, topicRotation, topicNewKey, topicStore, topicSnowflake, topicLog, topicOutput}

const (
	// HelpWidth is the longest line of a help.
	HelpWidth = 100

	helpColumn = 32 // of variables and defaults
	helpIndent = 6  // of meanings
)

// Help lists the command's settings by topic: the flag, its variable and default, and below them what it means.
func Help(c Config) string {
	var b strings.Builder
	for _, t := range topics {
		heading := string(t) + ":\n"
		for _, f := range c.fields() {
			if f.topic == t && !f.unlisted {
				b.WriteString(heading + f.usage())
				heading = ""
			}
		}
		if heading == "" {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// usage is the setting's lines in a help.
func (d definition) usage() string {
	first := "  " + d.name()
	if d.flag != "" {
		left := "--" + d.flag
		if d.value != isSwitch {
			left += " " + d.value
		}
		first = fmt.Sprintf("  %-*s%s", helpColumn-2, left, d.name())
	}
	if d.preset != "" && d.value != isSwitch {
		first += " (default " + d.preset + ")"
	}
	return first + "\n" + Wrap(strings.ReplaceAll(d.help, "`", ""), helpIndent)
}

// Wrap breaks a text into lines that are indented and fit a help. It breaks between words alone, and keeps line breaks.
func Wrap(text string, indent int) string {
	var b strings.Builder
	for paragraph := range strings.SplitSeq(text, "\n") {
		column := 0
		for _, word := range strings.Fields(paragraph) {
			width := len([]rune(word))
			switch {
			case column == 0:
				b.WriteString(strings.Repeat(" ", indent))
				column = indent
			case column+1+width > HelpWidth:
				b.WriteString("\n" + strings.Repeat(" ", indent))
				column = indent
			default:
				b.WriteByte(' ')
				column++
			}
			b.WriteString(word)
			column += width
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Values are the fixed values that a command's flags take, by the flag's name.
func Values(c Config) map[string][]string {
	all := map[string][]string{}
	for _, f := range c.fields() {
		if f.flag != "" && f.values != "" {
			all[f.flag] = strings.Fields(f.values)
		}
	}
	return all
}
