package connections_test

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"github.com/snowkey/snowkey/sidecar/internal/connections"
)

// read is the file as a TOML reader that is not ours has it.
func read(t *testing.T, file []byte) map[string]any {
	t.Helper()
	var content map[string]any
	if err := toml.Unmarshal(file, &content); err != nil {
		t.Fatalf("%v in\n%s", err, file)
	}
	return content
}

func TestFile_HasStringsUnderTheNamesOfEachClient(t *testing.T) {
	c := connections.Connection{
		Account: "myorg-acct", User: `CORP\nina@example.com`, KeyFile: "/run/snow flake/rsa_key.pem",
		Role: "LOADER", Warehouse: "wh", Database: "MY-DB", Schema: "PUBLIC", Host: "127.0.0.1", Port: "8085", Protocol: "http",
	}
	got := read(t, connections.File([]connections.Section{c.Section("default")}))
	want := map[string]any{"default": map[string]any{
		"account": "myorg-acct", "user": `CORP\nina@example.com`, "authenticator": "SNOWFLAKE_JWT",
		"private_key_file": "/run/snow flake/rsa_key.pem", "privateKeyPath": "/run/snow flake/rsa_key.pem",
		"role": "LOADER", "warehouse": `"wh"`, "database": `"MY-DB"`, "schema": "PUBLIC", "host": "127.0.0.1", "port": "8085", "protocol": "http",
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read back as %v, want %v", got, want)
	}
}

func TestFile_LeavesOutWhatIsNotSet(t *testing.T) {
	c := connections.Connection{Account: "A", User: "U", KeyFile: "/k"}
	section := read(t, connections.File([]connections.Section{c.Section("etl")}))["etl"].(map[string]any)
	names := slices.Sorted(maps.Keys(section))
	if got := strings.Join(names, " "); got != "account authenticator privateKeyPath private_key_file user" {
		t.Errorf("it has %s", got)
	}
}

func TestFile_SectionsAreReadBack(t *testing.T) {
	c := connections.Connection{Account: "A", User: "U", KeyFile: "/k"}
	etl, report := c.Section("etl"), connections.Connection{Account: "A", User: "R", KeyFile: "/r", Role: "a role"}.Section("report")
	written := []connections.Section{etl.As(connections.Default), etl, report}
	file := connections.File(written)
	if got := connections.Sections(file); !slices.Equal(got, written) {
		t.Errorf("read back as %q", got)
	}
	content := read(t, file)
	if !reflect.DeepEqual(content["default"], content["etl"]) || len(content) != 3 {
		t.Errorf("it has %v", content)
	}
	if got := connections.Sections(connections.File(nil)); got != nil {
		t.Errorf("no section is read back as %q", got)
	}
	if got := connections.Sections([]byte("[default]\naccount = \"A\"\n")); got != nil {
		t.Errorf("somebody else's file has the sections %q", got)
	}
}

func TestConfig_NamesTheDefaultAndWritesNoLog(t *testing.T) {
	want := map[string]any{
		"default_connection_name": "default",
		"cli":                     map[string]any{"logs": map[string]any{"save_logs": false}},
	}
	if got := read(t, connections.Config()); !reflect.DeepEqual(got, want) {
		t.Errorf("it has %v", got)
	}
}

func TestIsOurs_GoesByTheWholeFirstLine(t *testing.T) {
	for content, want := range map[string]bool{
		string(connections.File(nil)): true,
		string(connections.Config()):  true,
		"":                            false,
		"[default]\n":                 false,
		"# snowkey writes this file: changes are lost.":        false,
		"# snowkey writes this file: changes are lost. Not.\n": false,
		"\n" + string(connections.File(nil)):                   false,
	} {
		if got := connections.IsOurs([]byte(content)); got != want {
			t.Errorf("%q: %v", content, got)
		}
	}
}

func TestConnection_RefusesValuesThatNeedQuotes(t *testing.T) {
	for what, value := range map[string]string{
		"a double quotation mark": `a"b`, "a single one": "o'brien", "a line break": "a\nb", "a carriage return": "a\r", "a NUL": "a\x00b",
		"a tab": "a\tb", "an escape character": "a\x1b[0m", "a control character of Latin-1": "a\u0085b", "no UTF-8": "a\xffb",
	} {
		for name, c := range map[string]connections.Connection{
			"account": {Account: value}, "user": {User: value}, "private_key_file": {KeyFile: value}, "role": {Role: value},
			"warehouse": {Warehouse: value}, "database": {Database: value}, "schema": {Schema: value},
			"host": {Host: value}, "port": {Port: value}, "protocol": {Protocol: value},
		} {
			if got := c.Refused(); !slices.Equal(got, []string{name}) {
				t.Errorf("%s with %s: refused is %q", name, what, got)
			}
		}
	}
}

// FuzzFile holds every value that is not refused to what a TOML reader finds.
func FuzzFile(f *testing.F) {
	f.Add("myorg-acct", `CORP\nina`, "/run/snowflake")
	f.Add("[default]", "= # x", `\u0022 \" """ '''`)
	f.Fuzz(func(t *testing.T, account, user, path string) {
		c := connections.Connection{Account: account, User: user, KeyFile: path}
		if c.Refused() != nil || account == "" || user == "" || path == "" {
			return
		}
		section := read(t, connections.File([]connections.Section{c.Section("default")}))["default"].(map[string]any)
		if section["account"] != account || section["user"] != user || section["private_key_file"] != path || len(section) != 5 {
			t.Errorf("read back as %q", section)
		}
	})
}
