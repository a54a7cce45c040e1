// Package benchtable is what the benchmarks have in common: where they ran, and the place that their tables
// have in the documentation.
//
// It never measures anything.
package benchtable

import (
	"fmt"
	"os"
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

// Write replaces what stands in the Markdown file between the marks of this name.
func Write(path, name, table string) error {
	begin, end := "<!-- "+name+" -->\n", "<!-- end of "+name+" -->"
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(data), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no place for the table: add the lines %s and %s", path, strings.TrimSpace(begin), end)
	}
	return os.WriteFile(path, []byte(head+begin+table+end+tail), 0o644)
}
