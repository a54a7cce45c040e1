package main

import (
	"os"
	"testing"
)

// These need mount(2), and so root.
func TestDoctor_VolumeThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	for _, a := range []ailment{
		{name: "read-only", spoil: ofTask(func(k *task) { readOnly(k) }),
			lines: `fail  writing: uid UID cannot write there: read-only file system; mount the file system read-write (in a container, mount the volume read-write in the sidecar's container)`},
		{name: "full", spoil: ofTask(func(k *task) { full(k) }),
			lines: `fail  space: 0 bytes are free; make room in the file system: 1 MB is enough for every format (size=1m in the options of a tmpfs)`},
	} {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			k, account := examined(t)
			k.mount("size=64k,mode=0750,uid=65532,gid=65532")
			k.do("once").want(exitDone)
			a.spoil(k, account)
			k.t.Cleanup(func() { _ = os.Remove(k.dir + "/filler") })
			k.do("doctor").differs(a.lines)
		})
	}
}
