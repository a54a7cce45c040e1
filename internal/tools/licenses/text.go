package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// agreed are the licences under which this project, Apache-2.0, can pass on a program.
var agreed = []string{"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT"}

// thirdParty is the program's list and, below it, each text once.
func (p program) thirdParty() (string, error) {
	modules, err := p.modules()
	if err != nil {
		return "", err
	}
	var list, texts strings.Builder
	fmt.Fprintf(&list, "What others wrote that is in snowkey's program %q, and the licences and notices that go with it.\n", p.name)
	list.WriteString("snowkey's own licence is in LICENSE. Made by go run ./internal/tools/licenses.\n\n")
	users := map[string][]string{} // of each text
	var order []string
	for _, m := range modules {
		ids, err := m.licences()
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&list, "%s: %s\n", m.name(), strings.Join(ids, ", "))
		for _, file := range m.files {
			text, err := normal(file)
			if err != nil {
				return "", err
			}
			if users[text] == nil {
				order = append(order, text)
			}
			if !slices.Contains(users[text], m.name()) {
				users[text] = append(users[text], m.name())
			}
		}
	}
	for _, text := range order {
		fmt.Fprintf(&texts, "\n%s\n%s\n\n%s\n", strings.Repeat("=", 80), strings.Join(users[text], "\n"), text)
	}
	return list.String() + texts.String(), nil
}

func (m module) name() string { return strings.TrimSpace(m.path + " " + m.version) }

// licences are the SPDX identifiers of what is in the module's files.
func (m module) licences() ([]string, error) {
	var ids []string
	for _, file := range m.files {
		if strings.HasPrefix(strings.ToUpper(filepath.Base(file)), "NOTICE") {
			continue
		}
		text, err := normal(file)
		if err != nil {
			return nil, err
		}
		found, err := identify(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", m.name(), filepath.Base(file), err)
		}
		ids = append(ids, found...)
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("%s has no licence: it cannot be passed on, do without it", m.name())
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

func identify(text string) ([]string, error) {
	var ids []string
	known := licensecheck.Scan([]byte(text))
	for _, match := range known.Match {
		if !slices.Contains(agreed, match.ID) {
			return nil, fmt.Errorf("nobody has agreed to %s: if it may be passed on with an Apache-2.0 program, add it to agreed in internal/tools/licenses/text.go", match.ID)
		}
		ids = append(ids, match.ID)
	}
	if known.Percent < 50 {
		return nil, fmt.Errorf("%.0f%% of it is a licence that licensecheck knows: read it, and do without the module unless it can be named", known.Percent)
	}
	return ids, nil
}

// normal is a file's text with line ends that do not depend on who wrote it.
func normal(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	lines := strings.Split(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " \t\f")
	}
	return strings.Trim(strings.Join(lines, "\n"), "\n"), nil
}
