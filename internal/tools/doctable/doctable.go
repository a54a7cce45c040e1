// Package doctable reads and writes the parts of documents that programs and tests make. Such a part of the name N stands
// between the lines <!-- N --> and <!-- end of N -->; the first may say how it is made: <!-- N: made by ... -->.
//
// It never makes what it writes.
package doctable

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"
)

// Machine describes where this runs.
func Machine() string {
	processor := "unknown processor"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				processor = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%s/%s, %d cores (%s), %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), processor, runtime.Version())
}

// Read returns the part of this name.
func Read(path, name string) (string, error) {
	_, text, _, err := split(path, name)
	return text, err
}

// Compare returns an error unless the part of this name is this text.
func Compare(path, name, text string) error {
	found, err := Read(path, name)
	if err == nil && found != text {
		err = fmt.Errorf("%s has another %s", path, name)
	}
	return err
}

// Write replaces the part of this name.
func Write(path, name, text string) error {
	before, _, after, err := split(path, name)
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(before+text+after), 0o644)
}

// split also has the marks, as the end of before and the beginning of after.
func split(path, name string) (before, text, after string, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", "", "", err
	}
	quoted := regexp.QuoteMeta(name)
	parts := regexp.MustCompile(`(?s)^(.*<!-- ` + quoted + `(?:: [^\n]*)? -->\n)(.*)(<!-- end of ` + quoted + ` -->.*)$`).FindStringSubmatch(string(data))
	if parts == nil {
		return "", "", "", fmt.Errorf("%s has no place for the table: add the lines <!-- %s --> and <!-- end of %s -->", path, name, name)
	}
	return parts[1], parts[2], parts[3], nil
}
