package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/lazyregexp"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
	"github.com/snowkey/snowkey/sidecar/internal/supervise"
)

func anyText(v string) (string, error) { return v, nil }

// parseParameter also returns an invalid name, so that no second error says that the name is missing.
func parseParameter(v string) (string, error) {
	if v == "" {
		return "", nil
	}
	_, err := ssm.ParseName(v)
	return v, err
}

func parseSecret(v string) (secret.Value, error) { return secret.New([]byte(v)), nil }

func parseDir(v string) (string, error) {
	switch {
	case v == "":
		return "", errors.New("name a directory")
	case unquoted(v) != v:
		return "", errors.New("name a directory without spaces and quotes around it")
	}
	return filepath.Clean(v), nil
}

// parseFormats gives none for "none". On an error it returns all formats, so that checkFormats adds no second error.
func parseFormats(v string) ([]keyfile.Format, error) {
	if strings.TrimSpace(v) == "none" {
		return nil, nil
	}
	var formats []keyfile.Format
	for name := range strings.SplitSeq(v, ",") {
		f, err := keyfile.ParseFormat(strings.TrimSpace(name))
		switch {
		case err != nil && name == v: // the message names it already
			return keyfile.Formats, errors.New("use one of " + formatNames("", ", ") + ", or more with commas between")
		case err != nil:
			return keyfile.Formats, fmt.Errorf("%w, or more with commas between", err)
		}
		if !slices.Contains(formats, f) {
			formats = append(formats, f)
		}
	}
	return formats, nil
}

// formatNames lists all formats, for the help and for completion.
func formatNames(quote, separator string) string {
	var names []string
	for _, f := range keyfile.Formats {
		names = append(names, quote+string(f)+quote)
	}
	return strings.Join(names, separator)
}

func parseServe(v string) ([]keyfile.Format, error) {
	if v == "" {
		return nil, nil
	}
	return parseFormats(v)
}

func parseFileMode(v string) (fs.FileMode, error) {
	bits, err := strconv.ParseUint(v, 8, 32)
	if err != nil {
		return 0, errors.New("write the mode in octal, such as 0440")
	}
	mode := fs.FileMode(bits)
	if mode&0o400 == 0 || mode&^0o444 != 0 {
		return 0, errors.New("write 0400, 0440 or 0444: its owner reads a key file, and no user writes it")
	}
	return mode, nil
}

// parseConnectionsMode lets the owner write: Node 2 and 3 read connections.toml only if its owner may write it.
func parseConnectionsMode(v string) (fs.FileMode, error) {
	bits, err := strconv.ParseUint(v, 8, 32)
	if err != nil {
		return 0, errors.New("write the mode in octal, such as 0600")
	}
	mode := fs.FileMode(bits)
	if mode&0o400 == 0 || mode&^0o644 != 0 {
		return 0, errors.New("write 0600 or 0400 for readers of the sidecar's uid, 0440 or 0444 for others: its owner reads the file, and no other user writes it")
	}
	return mode, nil
}

func parseDuration(least time.Duration) func(string) (time.Duration, error) {
	return durationOr(least, "write a duration with its unit, such as 30s or 5m")
}

// durationOr parses a duration; advice is the error for what is none.
func durationOr(least time.Duration, advice string) func(string) (time.Duration, error) {
	return func(v string) (time.Duration, error) {
		d, err := time.ParseDuration(v)
		if err != nil {
			return 0, errors.New(advice)
		}
		if d < least {
			return 0, fmt.Errorf("the shortest is %v", least)
		}
		return d, nil
	}
}

func parseBits(v string) (int, error) {
	switch v {
	case "2048", "3072", "4096":
		return strconv.Atoi(v)
	}
	return 0, errors.New("write 2048, 3072 or 4096")
}

// parseFile refuses "-", which other programs take for their standard streams.
func parseFile(v string) (string, error) {
	if v == "" {
		return "", errors.New("name a file")
	}
	if v == "-" {
		return "", errors.New("no key is written to the terminal; name a file")
	}
	return filepath.Clean(v), nil
}

func parseTags(v string) ([]ssm.Tag, error) {
	var tags []ssm.Tag
	for line := range strings.Lines(v) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || key == "" {
			return nil, errors.New("write a tag as key=value")
		}
		if slices.ContainsFunc(tags, func(t ssm.Tag) bool { return t.Key == key }) {
			return nil, errors.New("write each tag once")
		}
		tags = append(tags, ssm.Tag{Key: key, Value: value})
	}
	return tags, nil
}

// graceAuto stands for a grace that depends on another setting.
const graceAuto = time.Duration(-1)

func parseGrace(v string) (time.Duration, error) {
	if v == "auto" {
		return graceAuto, nil
	}
	return durationOr(0, "write auto, or a duration with its unit, such as 2h")(v)
}

// parseAge takes days, too.
func parseAge(v string) (time.Duration, error) {
	const advice = "write an age with its unit, such as 30d or 12h"
	if number, ok := strings.CutSuffix(v, "d"); ok {
		days, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return 0, errors.New(advice)
		}
		return time.Duration(days) * 24 * time.Hour, nil
	}
	return durationOr(0, advice)(v)
}

func parseOnChange(v string) (supervise.Change, error) {
	switch v {
	case "none":
		return supervise.Change{}, nil
	case "restart":
		return supervise.Change{Restart: true}, nil
	}
	signal, err := supervise.ParseSignal(v)
	return supervise.Change{Signal: signal}, err
}

func parseUnreachable(v string) (publish bool, err error) {
	if v != "wait" && v != "publish" {
		return false, errors.New("write wait or publish")
	}
	return v == "publish", nil
}

func parseBool(v string) (bool, error) {
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, errors.New("write true or false")
	}
	return b, nil
}

// dimension matches the values that CloudWatch allows for a dimension, without spaces: alarms name it.
var dimension = lazyregexp.New(`^[!-9;-~][!-~]*$`)

const longestDimension = 255

func parseDimension(v string) (string, error) {
	if v != "" && (len(v) > longestDimension || !dimension().MatchString(v)) {
		return "", errors.New("write a name of at most 255 letters, digits and signs, such as that of the ECS service")
	}
	return v, nil
}

// parseAddr makes ":9090" mean loopback, so that leaving out the host never serves the task's network.
func parseAddr(v string) (string, error) {
	if v == "" {
		return "", nil
	}
	host, port, err := net.SplitHostPort(v)
	if err != nil {
		return "", errors.New("write HOST:PORT or :PORT")
	}
	if _, err := parsePort(port); err != nil {
		return "", err
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}

func parsePort(v string) (int, error) {
	port, err := strconv.ParseUint(v, 10, 16)
	if err != nil {
		return 0, errors.New("a port is a number up to 65535")
	}
	return int(port), nil
}

// parseRemotePort takes the port of a server. 0 stands for none, and is no port itself.
func parseRemotePort(v string) (int, error) {
	if v == "" {
		return 0, nil
	}
	port, err := parsePort(v)
	if err == nil && port == 0 {
		err = errors.New("a port is a number from 1 to 65535; leave it out for the protocol's own")
	}
	return port, err
}

func parseProtocol(v string) (string, error) {
	v = strings.ToLower(v)
	if v != "http" && v != "https" && v != "" {
		return "", errors.New("write https or http")
	}
	return v, nil
}
