//go:build faults

package faults

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A disk is what a filesystem has in memory and what of it a power cut cannot take.
type disk struct {
	root    string
	now     map[string]*node // by path
	durable map[string]*node
	pending []change
}

// A node is a file or a directory whatever its name.
type node struct {
	dir        bool
	data, kept []byte      // as it is, and as it was synced
	mode, held fs.FileMode // likewise
}

// A change of a directory: a name that comes, goes, or both.
type change struct {
	dir      string
	from, to string
	node     *node
}

func (c change) apply(names map[string]*node) {
	if c.from != "" {
		delete(names, c.from)
	}
	if c.to != "" {
		names[c.to] = c.node
	}
}

// newDisk has what is in the directory, synced.
func newDisk(t *testing.T, root string) *disk {
	t.Helper()
	d := &disk{root: root, now: map[string]*node{}}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		path := filepath.Join(root, e.Name())
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		d.now[path] = &node{data: data, kept: data, mode: info.Mode(), held: info.Mode()}
	}
	d.durable = maps.Clone(d.now)
	return d
}

func (d *disk) apply(t *testing.T, c call) {
	t.Helper()
	n := d.now[c.path]
	if n == nil && !slices.Contains([]string{"create", "mkdir"}, c.what) && c.path != d.root {
		t.Fatalf("%s of %s, which is not known", c.what, c.path)
	}
	switch c.what {
	case "create", "mkdir":
		if n == nil {
			mode := fs.FileMode(0o600)
			if c.what == "mkdir" {
				mode = cmp.Or(c.mode, 0o700) // what a umask may leave
			}
			d.change(change{dir: filepath.Dir(c.path), to: c.path, node: &node{dir: c.what == "mkdir", mode: mode, held: mode}})
		}
	case "write":
		n.data = append(slices.Clone(n.data), c.data...)
	case "chmod":
		n.mode = c.mode
	case "rename":
		d.change(change{dir: filepath.Dir(c.path), from: c.path, to: c.to, node: n})
	case "remove":
		d.change(change{dir: filepath.Dir(c.path), from: c.path})
	case "fsync":
		if n != nil {
			n.kept, n.held = n.data, n.mode
		}
		d.pending = slices.DeleteFunc(d.pending, func(p change) bool {
			if p.dir == c.path {
				p.apply(d.durable)
			}
			return p.dir == c.path
		})
	}
}

func (d *disk) change(c change) {
	c.apply(d.now)
	d.pending = append(d.pending, c)
}

// A state is what is there when the power is back.
type state map[string]content

type content struct {
	dir  bool
	data []byte
	mode fs.FileMode
}

func (s state) String() string {
	var b strings.Builder
	for _, path := range slices.Sorted(maps.Keys(s)) {
		fmt.Fprintf(&b, "%s %v, %d bytes with sum %x\n", path, s[path].mode, len(s[path].data), sha256.Sum256(s[path].data))
	}
	return b.String()
}

// states are all that a power cut can leave now: any of the pending changes, and of each file that was not
// synced what was, or half, or all.
func (d *disk) states() []state {
	var all []state
	for chosen := range 1 << len(d.pending) {
		names := maps.Clone(d.durable)
		for i, p := range d.pending {
			if chosen>>i&1 == 1 {
				p.apply(names)
			}
		}
		all = append(all, d.contents(names)...)
	}
	return all
}

func (d *disk) contents(names map[string]*node) []state {
	all := []state{{}}
	for path, n := range names {
		if parent := filepath.Dir(path); parent != d.root && names[parent] == nil {
			continue // gone with its directory
		}
		var next []state
		for _, variant := range n.variants() {
			for _, s := range all {
				s = maps.Clone(s)
				s[path] = variant
				next = append(next, s)
			}
		}
		all = next
	}
	return all
}

func (n *node) variants() []content {
	all := []content{{n.dir, n.data, n.mode}}
	if !bytes.Equal(n.data, n.kept) {
		all = append(all, content{n.dir, n.kept, n.mode}, content{n.dir, n.data[:(len(n.kept)+len(n.data))/2], n.mode})
	}
	if n.mode != n.held {
		for _, c := range slices.Clone(all) {
			all = append(all, content{n.dir, c.data, n.held})
		}
	}
	return all
}
