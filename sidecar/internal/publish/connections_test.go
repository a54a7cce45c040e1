//go:build unix

package publish_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/BurntSushi/toml"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/connections"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/publish"
)

// connected is a directory in which a sidecar publishes key 0 of thisSource, and the connection of a user.
func connected(t *testing.T, user string) *publish.Publisher {
	t.Helper()
	d := dir(t)
	d.Connections = &publish.Connections{Mode: 0o600, Names: []string{connections.Default}}
	lock(t, d, thisSource)
	put(t, d, testkey.Key(0))
	connect(t, d, user)
	status(t, d, thisSource, testkey.Key(0))
	return d
}

func connect(t *testing.T, d *publish.Publisher, user string) {
	t.Helper()
	if err := d.Connect(connectionOf(user)); err != nil {
		t.Fatal(err)
	}
}

func connectionOf(user string) connections.Connection {
	return connections.Connection{Account: "A", User: user, KeyFile: "/rsa_key.pem"}
}

// users are those of the connections in a directory, by name, as "NAME=USER", or "none" without a file.
func users(t *testing.T, dir string) string {
	t.Helper()
	var sections map[string]struct{ User string }
	_, err := toml.DecodeFile(filepath.Join(dir, "connections.toml"), &sections)
	if os.IsNotExist(err) {
		return "none"
	}
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, name := range slices.Sorted(maps.Keys(sections)) {
		all = append(all, name+"="+sections[name].User)
	}
	return strings.Join(all, " ")
}

func wantUsers(t *testing.T, dir, want string) {
	t.Helper()
	if got := users(t, dir); got != want {
		t.Errorf("the connections are %s, want %s", got, want)
	}
}

func defaultName(t *testing.T, dir string) string {
	t.Helper()
	var config struct {
		Name string `toml:"default_connection_name"`
	}
	if _, err := toml.DecodeFile(filepath.Join(dir, "config.toml"), &config); err != nil {
		t.Fatal(err)
	}
	return config.Name
}

func TestConnect_WritesBothFilesOnceWithTheirMode(t *testing.T) {
	d := connected(t, "SVC")
	wantUsers(t, d.Path, "default=SVC")
	if got := defaultName(t, d.Path); got != "default" {
		t.Errorf("the default is %s", got)
	}
	before := infoOf(t, d, "connections.toml")
	for _, name := range []string{"connections.toml", "config.toml"} {
		if mode := infoOf(t, d, name).Mode(); mode != 0o600 {
			t.Errorf("%s has mode %v", name, mode)
		}
	}
	connect(t, d, "SVC")
	if !os.SameFile(before, infoOf(t, d, "connections.toml")) {
		t.Error("an unchanged file was written again")
	}
	connect(t, d, "OTHER")
	wantUsers(t, d.Path, "default=OTHER")
	d.Connections.Mode = 0o440
	connect(t, d, "OTHER")
	if mode := infoOf(t, d, "config.toml").Mode(); mode != 0o440 {
		t.Errorf("it has mode %v", mode)
	}
}

func infoOf(t *testing.T, d *publish.Publisher, name string) os.FileInfo {
	t.Helper()
	info, err := os.Lstat(filepath.Join(d.Path, name))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestConnect_FileOfSomebodyElseStays(t *testing.T) {
	const theirs = "[default]\naccount = \"theirs\"\n"
	for what, tc := range map[string]struct {
		make func(path string) error
		says string
	}{
		"their file":               {func(path string) error { return os.WriteFile(path, []byte(theirs), 0o600) }, "another program wrote it"},
		"an empty file":            {func(path string) error { return os.WriteFile(path, nil, 0o600) }, "another program wrote it"},
		"our mark further down":    {func(path string) error { return os.WriteFile(path, []byte(theirs+connections.Mark+"\n"), 0o600) }, "another program wrote it"},
		"a directory":              {func(path string) error { return os.Mkdir(path, 0o700) }, "is a directory"},
		"a symbolic link":          {func(path string) error { return os.Symlink("rsa_key.pem", path) }, "is a symbolic link"},
		"a FIFO":                   {func(path string) error { return syscall.Mkfifo(path, 0o600) }, "is not a regular file"},
		"a symbolic link to /etc/": {func(path string) error { return os.Symlink("/etc/passwd", path) }, "is a symbolic link"},
	} {
		for _, name := range []string{"connections.toml", "config.toml"} {
			t.Run(name+": "+what, func(t *testing.T) {
				d := dir(t)
				d.Connections = &publish.Connections{Mode: 0o600, Names: []string{connections.Default}}
				lock(t, d, thisSource)
				put(t, d, testkey.Key(0))
				path := filepath.Join(d.Path, name)
				if err := tc.make(path); err != nil {
					t.Fatal(err)
				}
				before, had := infoOf(t, d, name), names(t, d)
				_, unread := d.ReadConnections()
				for _, err := range []error{d.Connect(connectionOf("SVC")), unread} {
					if failure.Class(err) != keyfile.ClassFilesystem || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), tc.says) {
						t.Errorf("error %v", err)
					}
				}
				if after := infoOf(t, d, name); !os.SameFile(before, after) || before.Size() != after.Size() || names(t, d) != had {
					t.Errorf("the directory had %s and has %s", had, names(t, d))
				}
			})
		}
	}
}

func TestConnect_TheLastStartedOfTwoSidecarsWins(t *testing.T) {
	first := connected(t, "OLD")
	second := another(first)
	second.Connections = &publish.Connections{Mode: 0o440, Names: []string{connections.Default}}
	lock(t, second, thisSource)
	connect(t, second, "NEW")
	for range 3 {
		connect(t, first, "OLD")
		connect(t, second, "NEW")
		wantUsers(t, first.Path, "default=NEW")
	}
	if err := os.Remove(filepath.Join(first.Path, "connections.toml")); err != nil {
		t.Fatal(err)
	}
	connect(t, first, "OLD") // better than none
	wantUsers(t, first.Path, "default=OLD")
	second.Unlock()
	connect(t, first, "OLD")
	if mode := infoOf(t, first, "connections.toml").Mode(); mode != 0o600 {
		t.Errorf("it has mode %v", mode)
	}
}

// withConnections gives the keys of one sidecar the files that they share.
func withConnections(all []*publish.Publisher, names ...string) {
	shared := &publish.Connections{Mode: 0o600, Names: names}
	for _, d := range all {
		d.Connections = shared
	}
}

// publishKey publishes one of several keys, without its connection.
func publishKey(t *testing.T, d *publish.Publisher) {
	t.Helper()
	if err := d.Create(); err != nil {
		t.Fatal(err)
	}
	put(t, d, testkey.Key(0))
	source := "arn:aws:ssm:us-east-1:111111111111:parameter/" + filepath.Base(d.Path)
	status(t, d, source, testkey.Key(0))
}

func TestConnect_SeveralKeysShareTheFile(t *testing.T) {
	parent := t.TempDir()
	all := keys(t, parent, "etl", "report")
	withConnections(all, "etl", "report")
	publishKey(t, all[1])
	connect(t, all[1], "R")
	wantUsers(t, parent, "report=R") // and no default, which is the first key
	publishKey(t, all[0])
	connect(t, all[0], "E")
	wantUsers(t, parent, "default=E etl=E report=R")
	if got := defaultName(t, parent); got != "default" {
		t.Errorf("the default is %s", got)
	}
	if err := publish.Health(parent); err != nil {
		t.Error(err)
	}
}

func TestConnect_KeysOfOneSidecarAtTheSameTime(t *testing.T) {
	parent := t.TempDir()
	all := keys(t, parent, "default", "a", "b", "c", "d", "e")
	withConnections(all, "default", "a", "b", "c", "d", "e")
	for _, d := range all {
		publishKey(t, d)
	}
	var group sync.WaitGroup
	for _, d := range all {
		group.Go(func() {
			for range 5 {
				if err := d.Connect(connectionOf("U")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	wantUsers(t, parent, "a=U b=U c=U d=U default=U e=U")
	if got := defaultName(t, parent); got != "default" {
		t.Errorf("the default is %s", got)
	}
}

// After a start the login of a key may not be known for as long as its secret cannot be fetched.
func TestConnect_ConnectionOfAPredecessorStays(t *testing.T) {
	parent := t.TempDir()
	predecessor := keys(t, parent, "etl", "report")
	withConnections(predecessor, "etl", "report")
	for _, d := range predecessor {
		publishKey(t, d)
		connect(t, d, "OF "+filepath.Base(d.Path))
		d.Unlock()
	}
	all := keys(t, parent, "etl", "report")
	withConnections(all, "etl", "report")
	publishKey(t, all[0])
	connect(t, all[0], "E")
	wantUsers(t, parent, "default=E etl=E report=OF report")
	connect(t, all[1], "R")
	wantUsers(t, parent, "default=E etl=E report=R")
}

func TestConnect_KeepsConnectionsOfOtherKeys(t *testing.T) {
	parent := t.TempDir()
	others := keys(t, parent, "other")
	withConnections(others, "other")
	publishKey(t, others[0])
	connect(t, others[0], "O")
	all := keys(t, parent, "etl")
	withConnections(all, "etl")
	publishKey(t, all[0])
	for range 2 { // neither takes the other's default
		connect(t, all[0], "E")
		wantUsers(t, parent, "default=O etl=E other=O")
		connect(t, others[0], "O")
		wantUsers(t, parent, "default=O etl=E other=O")
	}
	others[0].Unlock()
	if err := os.RemoveAll(others[0].Path); err != nil {
		t.Fatal(err)
	}
	publishKey(t, all[0]) // which takes it off the list
	connect(t, all[0], "E")
	wantUsers(t, parent, "default=E etl=E")
}

func TestConnection_NeverLeadsToTheKeyOfAnotherSource(t *testing.T) {
	for what, take := range map[string]func(*testing.T, *publish.Publisher){
		"once a key of another source comes": func(t *testing.T, d *publish.Publisher) { put(t, d, testkey.Key(1)) },
		"as soon as it is known":             func(_ *testing.T, d *publish.Publisher) { d.Disown() },
	} {
		for _, withFiles := range []bool{true, false} {
			first := connected(t, "SVC")
			first.Unlock()
			second := another(first)
			second.Connections = nil
			if withFiles {
				second.Connections = &publish.Connections{Mode: 0o600, Names: []string{connections.Default}}
			}
			lock(t, second, otherSource)
			take(t, second)
			if got := users(t, first.Path); got != "none" {
				t.Errorf("%s: the connections are %s", what, got)
			}
		}
	}
}

// succeeded is a directory in which a sidecar published the keys etl and report of user U, and the Publisher of etl of the
// next sidecar.
func succeeded(t *testing.T) (parent string, etl *publish.Publisher) {
	t.Helper()
	parent = t.TempDir()
	first := keys(t, parent, "etl", "report")
	withConnections(first, "etl", "report")
	for _, d := range first {
		publishKey(t, d)
		connect(t, d, "U")
		d.Unlock()
	}
	next := keys(t, parent, "etl", "report")
	withConnections(next, "etl", "report")
	next[0].Unlock()
	return parent, next[0]
}

func TestConnection_OfSeveralKeysNeverLeadsToAnotherSource(t *testing.T) {
	parent, next := succeeded(t)
	lock(t, next, otherSource)
	next.Disown()
	wantUsers(t, parent, "report=U")
	put(t, next, testkey.Key(1))
	connect(t, next, "NEW")
	wantUsers(t, parent, "default=NEW etl=NEW report=U")
}

// Whatever else is wrong, a connection goes before a key of another source comes.
func TestConnection_GoesWhateverElseIsThere(t *testing.T) {
	testenv.Slow(t)
	for name, spoil := range map[string]func(*testing.T, string, *publish.Publisher){
		"the next sidecar writes none": func(_ *testing.T, _ string, next *publish.Publisher) { next.Connections = nil },
		"config.toml is somebody else's": func(t *testing.T, parent string, _ *publish.Publisher) {
			if err := os.WriteFile(filepath.Join(parent, connections.ConfigName), []byte("theirs"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"the first key was never finished": func(t *testing.T, _ string, next *publish.Publisher) {
			status := keyfile.Status{Schema: keyfile.StatusSchema, Publishing: &keyfile.PendingKey{Source: thisSource, Fingerprint: testkey.Key(0).Fingerprint()}}
			content, _ := json.Marshal(status)
			if err := os.WriteFile(filepath.Join(next.Path, keyfile.StatusName), content, 0o644); err != nil {
				t.Fatal(err)
			}
		},
	} {
		for how, take := range map[string]func(*testing.T, *publish.Publisher){
			"comes":    func(t *testing.T, d *publish.Publisher) { put(t, d, testkey.Key(1)) },
			"is known": func(_ *testing.T, d *publish.Publisher) { d.Disown() },
		} {
			parent, next := succeeded(t)
			spoil(t, parent, next)
			lock(t, next, otherSource)
			take(t, next)
			if got := users(t, parent); strings.Contains(got, "etl=") || strings.Contains(got, "default=") {
				t.Errorf("%s, once another key %s: the connections are %s", name, how, got)
			}
		}
	}
}

func TestConnections_NoLongerPublishedGo(t *testing.T) {
	t.Run("of one key", func(t *testing.T) {
		d := connected(t, "SVC")
		d.Connections = nil
		put(t, d, testkey.Key(0))
		wantUsers(t, d.Path, "none")
		if s, err := keyfile.ReadStatus(d.Path); err != nil || !s.Connections {
			t.Errorf("the status is of the refresh before: %+v, %v", s, err)
		}
		status(t, d, thisSource, testkey.Key(0))
		if err := d.Health(); err != nil {
			t.Error(err)
		}
	})
	t.Run("of several keys", func(t *testing.T) {
		parent := t.TempDir()
		all := keys(t, parent, "etl", "report")
		withConnections(all, "etl", "report")
		for _, d := range all {
			publishKey(t, d)
			connect(t, d, "U")
			d.Unlock()
		}
		next := keys(t, parent, "etl", "report")
		publishKey(t, next[0])
		wantUsers(t, parent, "none")
		publishKey(t, next[1])
		if err := publish.Health(parent); err != nil {
			t.Error(err)
		}
	})
	t.Run("of another layout", func(t *testing.T) {
		parent := t.TempDir()
		one := connected(t, "SVC")
		one.Unlock()
		if err := os.Rename(one.Path, filepath.Join(parent, "etl")); err != nil {
			t.Fatal(err)
		}
		all := keys(t, parent, "etl")
		withConnections(all, "etl")
		publishKey(t, all[0])
		wantUsers(t, filepath.Join(parent, "etl"), "none")
	})
	t.Run("but not somebody else's", func(t *testing.T) {
		d := published(t)
		for _, name := range []string{"connections.toml", "config.toml"} {
			if err := os.WriteFile(filepath.Join(d.Path, name), []byte("[theirs]\nuser = \"T\"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		put(t, d, testkey.Key(1))
		wantUsers(t, d.Path, "theirs=T")
	})
	t.Run("nor beside a sidecar that publishes them", func(t *testing.T) {
		first := connected(t, "SVC")
		second := another(first)
		second.Connections = nil
		lock(t, second, thisSource)
		put(t, second, testkey.Key(1))
		wantUsers(t, first.Path, "default=SVC")
	})
}

func TestHealth_ConnectionsAreThere(t *testing.T) {
	for what, spoil := range map[string]func(path string) error{
		"no such file":             os.Remove,
		"another program wrote it": func(path string) error { return os.WriteFile(path, []byte("[default]\n"), 0o600) },
	} {
		for _, name := range []string{"connections.toml", "config.toml"} {
			d := connected(t, "SVC")
			if err := publish.Health(d.Path); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(d.Path, name)
			if err := spoil(path); err != nil {
				t.Fatal(err)
			}
			if err := publish.Health(d.Path); err == nil || !strings.Contains(err.Error(), path+": "+what) {
				t.Errorf("error %v", err)
			}

			parent := t.TempDir()
			all := keys(t, parent, "etl")
			withConnections(all, "etl")
			publishKey(t, all[0])
			connect(t, all[0], "E")
			publishKey(t, all[0]) // its status comes after the connection
			path = filepath.Join(parent, name)
			if err := spoil(path); err != nil {
				t.Fatal(err)
			}
			for _, err := range []error{publish.Health(parent), all[0].Health()} {
				if err == nil || !strings.Contains(err.Error(), path+": "+what) {
					t.Errorf("error %v", err)
				}
			}
		}
	}
}

func TestHealth_KeyHasItsConnection(t *testing.T) {
	testenv.Slow(t)
	empty := func(path string) error { return os.WriteFile(path, connections.File(nil), 0o600) }
	d := connected(t, "SVC")
	path := filepath.Join(d.Path, connections.FileName)
	if err := empty(path); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{publish.Health(d.Path), d.Health()} {
		if err == nil || !strings.Contains(err.Error(), "default is not in "+path+"; send SIGHUP") {
			t.Errorf("error %v", err)
		}
	}

	parent := t.TempDir()
	all := append(keys(t, parent, "etl"), keys(t, parent, "report")...) // of two sidecars
	withConnections(all[:1], "etl")
	for _, d := range all {
		publishKey(t, d)
	}
	connect(t, all[0], "E")
	publishKey(t, all[0]) // its status comes after the connection
	if err := publish.Health(parent); err != nil {
		t.Errorf("with a key of a sidecar without --connections: %v", err)
	}
	path = filepath.Join(parent, connections.FileName)
	if err := empty(path); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{publish.Health(parent), all[0].Health()} {
		if err == nil || !strings.Contains(err.Error(), "etl is not in "+path+"; send SIGHUP") {
			t.Errorf("error %v", err)
		}
	}
	if err := all[1].Health(); err != nil {
		t.Error(err)
	}
}

// A key that a predecessor left is healthy while nothing says whose it is: the secret that does cannot be fetched.
func TestHealth_NoConnectionBeforeTheLoginIsKnown(t *testing.T) {
	d := dir(t)
	lock(t, d, thisSource)
	put(t, d, testkey.Key(0))
	d.Connections = &publish.Connections{Mode: 0o600, Names: []string{connections.Default}}
	status(t, d, thisSource, testkey.Key(0))
	for _, err := range []error{publish.Health(d.Path), d.Health()} {
		if err != nil {
			t.Error(err)
		}
	}
	connect(t, d, "SVC")
	status(t, d, thisSource, testkey.Key(0))
	if s, err := keyfile.ReadStatus(d.Path); err != nil || !s.Connections {
		t.Errorf("status %+v, error %v", s, err)
	}
}
