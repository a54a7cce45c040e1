package doctor

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/snowkey/snowkey/sidecar/internal/connections"
	"github.com/snowkey/snowkey/sidecar/internal/publish"
)

// connectionsFacts are about connections.toml, if --connections is set.
type connectionsFacts struct {
	content []byte // of connections.toml, nil without the file
	err     error  // why the sidecar would not replace it, or why it cannot be read
	at      owned
	config  owned // config.toml; the zero owned without the file
}

func inspectConnections(dir publish.Dir) (c connectionsFacts) {
	if dir.Connections == nil {
		return c
	}
	c.content, c.err = dir.ReadConnections()
	if info, err := os.Lstat(dir.ConnectionsPath()); err == nil {
		c.at = ownedBy(info)
	}
	if info, err := os.Lstat(configPath(dir)); err == nil {
		c.config = ownedBy(info)
	}
	return c
}

func configPath(dir publish.Dir) string {
	return filepath.Join(filepath.Dir(dir.ConnectionsPath()), connections.ConfigName)
}

func judgeConnections(f *facts) finding {
	d, c := f.directory, f.directory.connections
	switch {
	case d.dir.Connections == nil:
		return skip("--connections is not set")
	case errors.Is(c.err, fs.ErrPermission):
		return warn(fmt.Sprintf("uid %d may not read %s", os.Geteuid(), d.dir.ConnectionsPath()),
			"run doctor as the sidecar's user; a reader of another uid needs --connections-mode 0440")
	case c.err != nil:
		return failed(c.err)
	case c.content == nil && d.published == nil:
		return warn("none yet", "start the sidecar: sidecar run")
	case c.content == nil:
		return fail(d.dir.ConnectionsPath()+" is missing", writesAgain)
	case c.config == (owned{}):
		return fail(configPath(d.dir)+" is missing", writesAgain)
	case c.config.mode != d.dir.Connections.Mode:
		return wrongMode(configPath(d.dir), c.config, d.dir.Connections.Mode)
	case c.at.mode != d.dir.Connections.Mode:
		return wrongMode(d.dir.ConnectionsPath(), c.at, d.dir.Connections.Mode)
	}
	name := cmp.Or(f.of.Name, connections.Default)
	wanted, known := f.of.Connection(f.key.login)
	if known && !slices.Contains(connections.Sections(c.content), wanted.Section(name)) {
		return warn(fmt.Sprintf("the connection %s is not as these settings have it", name), "give doctor the settings of the sidecar, or send SIGHUP to refresh: that writes the file again")
	}
	readers := fmt.Sprintf("uid %d", c.at.uid)
	if c.at.mode&0o004 != 0 {
		readers = "every user"
	} else if c.at.mode&0o040 != 0 {
		readers += fmt.Sprintf(" and gid %d", c.at.gid)
	}
	return ok(fmt.Sprintf("%s, with SNOWFLAKE_HOME=%s, for %s (%s)", name, filepath.Dir(d.dir.ConnectionsPath()), readers, c.at))
}

func wrongMode(path string, is owned, wanted fs.FileMode) finding {
	return fail(fmt.Sprintf("%s is %s, and --connections-mode is %04o", path, is, wanted), setsModeAgain)
}
