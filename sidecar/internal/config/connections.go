package config

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/snowkey/snowkey/internal/identity"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/connections"
	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
)

// Connection is the key's connection, for clients. The login that was stored with the key fills in what the settings leave
// open; known reports whether account and user are named then.
func (k Key) Connection(stored decrypt.Login) (c connections.Connection, known bool) {
	s := k.Snowflake
	c = connections.Connection{
		Account:   cmp.Or(string(s.Account), stored.Account),
		User:      cmp.Or(string(s.User), stored.User),
		KeyFile:   filepath.Join(absolute(k.Dir), keyfile.PEM.FileName()),
		Role:      string(s.Role),
		Warehouse: s.Warehouse,
		Database:  s.Database,
		Schema:    s.Schema,
		Host:      s.Host,
		Protocol:  cmp.Or(s.Protocol, "https"), // without it JDBC 3 takes port 80
	}
	if s.Port != 0 {
		c.Port = strconv.Itoa(s.Port)
	}
	if a := identity.Account(c.Account); a.IsHost() { // no client reads that as an account
		c.Account, c.Host = a.Label(), cmp.Or(c.Host, a.Host())
	}
	return c, c.Account != "" && c.User != ""
}

// absolute is the path for programs in other directories.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// checkConnections reports what --connections lacks, and values that connections.toml cannot have. It repeats no value.
func (s *KeySettings) checkConnections(d Directory) []error {
	if !d.Connections {
		return nil
	}
	all := slices.Clone(s.invalidNames)
	if !slices.Contains(d.Formats, keyfile.PEM) {
		all = append(all, errors.New("--connections names the PEM file: add pem to --formats"))
	}
	for i, k := range s.Keys {
		if k.lacksLogin() {
			all = append(all, fmt.Errorf("--connections needs an account and a user: set %s", k.settingOf("account", "user")))
		}
		if i > 0 && k.Name == connections.Default {
			all = append(all, fmt.Errorf("with --connections the first key is the default, and another one is named %s: write it first, or give it another name", k.Name))
		}
		c, _ := k.Connection(decrypt.Login{})
		for _, name := range c.Refused() {
			all = append(all, fmt.Errorf("%s: --connections writes no quotation mark, line break or control character; correct it, or leave --connections out", k.settingOf(name)))
		}
	}
	return all
}

// settingOf says where the values of these names are set.
func (k Key) settingOf(names ...string) string {
	var variables, fields []string
	for _, name := range names {
		if name == "private_key_file" {
			return "--dir"
		}
		variables = append(variables, "SNOWFLAKE_"+strings.ToUpper(name))
		fields = append(fields, name+"=")
	}
	all := strings.Join(variables, " and ")
	if k.Name == "" {
		return all
	}
	return fmt.Sprintf("%s of key %s, or %s", strings.Join(fields, " and "), k.Name, all)
}
