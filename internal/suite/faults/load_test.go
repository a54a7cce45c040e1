//go:build faults

package faults

import (
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/shared/keyfile"
)

// What the table says.
const (
	manyTimes = 10_000
	manyKills = 2_000
)

var (
	changes = flag.Int("changes", manyTimes, "how many key changes there are in a row")
	kills   = flag.Int("kills", manyKills, "how often the sidecar is killed")
)

var loadScenarios = []scenario{
	{
		fault: "the key changes 10,000 times in a row, under 64 MB", operator: "one line for each",
		within: 10 * time.Second, run: manyChanges,
	},
	{
		fault: "two sidecars with the same parameter write while 24 readers read", operator: "a line for each key, from one or both",
		consumer: "nothing; the key before the last one may come back until the next refresh", within: 10 * time.Second, run: race,
	},
	{
		fault: "the sidecar is killed 2,000 times at random moments", operator: "what was left of a write is removed at the next start",
		within: 10 * time.Second, run: killedAtRandom,
	},
}

// eager is the directory of a sidecar that refreshes at each SIGHUP. The real one leaves gaps, which would make thousands of
// changes take hours.
const eager = "eager"

func buildEager(dir string) error {
	source, err := filepath.Abs("../../../sidecar/eager.go")
	if err != nil {
		return err
	}
	return buildVariant(filepath.Join(dir, eager), map[string]string{source: `package main

import "time"

func init() { signalGap = time.Millisecond }
`}, "sidecar")
}

// assignAll has Snowflake accept every key, so that the consumer may be behind.
func (f *fixture) assignAll() {
	for n := range pool {
		if n != int(f.newest.Load())%pool {
			f.snowflake.AddKeyPair(user, "KEY_"+string(rune('A'+n)), &key(n).RSA().PublicKey)
		}
	}
	f.assigned = true
}

func manyChanges(f *fixture, s scenario) time.Duration {
	f.assignAll()
	f.program = filepath.Join(eager, "sidecar")
	group, err := newGroup()
	if err != nil {
		cannot(f.t, err.Error())
	}
	f.t.Cleanup(func() { _ = os.Remove(group.path) })
	group.limit(f, 64<<20)
	f.startSidecarIn(group)
	f.startConsumer()
	f.adopted(0)
	f.readers = f.read()
	since := f.sidecar.Mark()
	for range *changes {
		f.rotate()
		f.sidecar.Signal(syscall.SIGHUP)
		f.follows()
	}
	queries := f.consumer.Mark()
	took := f.adopted(queries)
	f.quiet(since)
	if n := f.sidecar.Count(since, `"key published"`); n < *changes {
		f.t.Errorf("%d lines for %d changes", n, *changes)
	}
	return took
}

// follows waits for the newest key in the file that is written last.
func (f *fixture) follows() {
	f.t.Helper()
	testenv.Eventually(f.t, "the newest key is published", func() bool { return f.onDisk(keyfile.PEM) })
}

// race makes two sidecars refresh at the same moments. One that fetched before a change may publish after the other,
// and corrects that at its next refresh.
func race(f *fixture, s scenario) time.Duration {
	f.assignAll()
	f.program = filepath.Join(eager, "sidecar")
	f.begin()
	f.readers.older.Store(true)
	first := f.sidecar
	delete(f.sidecarEnv, "SNOWKEY_METRICS_ADDR")
	f.startSidecar()
	second := f.sidecar
	testenv.Eventually(f.t, "the second sidecar starts", func() bool { return second.Said(0, `"started"`) })
	since, since2 := first.Mark(), second.Mark()
	crowd := &readers{t: f.t, dir: f.dir, newest: f.readers.newest, every: 500 * time.Microsecond}
	crowd.older.Store(true)
	crowd.start(8, keyfile.DER, keyfile.PEM)
	for range 200 {
		f.rotate()
		first.Signal(syscall.SIGHUP)
		second.Signal(syscall.SIGHUP)
		f.follows()
	}
	began := time.Now()
	time.Sleep(2 * interval) // by then both have refreshed again
	queries := f.consumer.Mark()
	f.published()
	f.adopted(queries)
	took := time.Since(began)
	crowd.older.Store(false)
	f.readers.older.Store(false)
	time.Sleep(3 * interval)
	crowd.close()
	f.quiet(since2)
	if first.Said(since, "refresh failed") {
		f.t.Error("a refresh of the first sidecar failed")
	}
	first.Stop()
	return took
}

// killedAtRandom kills the sidecar at any moment of its start and, every other time, within a moment of the
// first file that it makes for a new key. It would pass without having tried anything if no kill ever came in
// the middle of a write: it counts those that did.
func killedAtRandom(f *fixture, s scenario) time.Duration {
	f.assignAll()
	f.begin()
	f.sidecar.Kill()
	events, err := fsnotify.NewWatcher()
	if err != nil {
		f.t.Fatal(err)
	}
	defer events.Close()
	if err := events.Add(f.dir); err != nil {
		f.t.Fatal(err)
	}
	var leftovers, between int
	lifetime := 60 * time.Millisecond
	for i := range *kills {
		if f.onDisk(keyfile.DER) && f.onDisk(keyfile.PEM) {
			f.rotate()
		}
		drain(events)
		f.startSidecar()
		switch {
		case i%50 == 49: // is let live, and cleans up
			began := time.Now()
			f.published()
			lifetime = time.Since(began)
			f.noLeftovers()
		case i%2 == 0:
			time.Sleep(rand.N(lifetime * 5 / 4))
		default:
			firstFile(events)
			time.Sleep(rand.N(time.Millisecond))
		}
		f.sidecar.Kill()
		if f.hasLeftovers() {
			leftovers++
		}
		if f.onDisk(keyfile.DER) != f.onDisk(keyfile.PEM) {
			between++
		}
	}
	f.t.Logf("of %d kills %d left a temporary file, %d came between two renames", *kills, leftovers, between)
	if leftovers == 0 || between == 0 {
		f.t.Error("no kill came in the middle of a write")
	}
	if f.onDisk(keyfile.DER) && f.onDisk(keyfile.PEM) {
		f.rotate()
	}
	began := time.Now()
	queries := f.consumer.Mark()
	f.startSidecar()
	f.published()
	took := time.Since(began)
	f.adopted(queries)
	return took
}

func drain(events *fsnotify.Watcher) {
	for {
		select {
		case <-events.Events:
		default:
			return
		}
	}
}

// firstFile waits for a file that is being written, but not for long: there may be nothing to write.
func firstFile(events *fsnotify.Watcher) {
	timeout := time.After(200 * time.Millisecond)
	for {
		select {
		case e := <-events.Events:
			if e.Has(fsnotify.Create) && strings.Contains(e.Name, temporary) {
				return
			}
		case <-timeout:
			return
		}
	}
}
