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

// eager is the folder of a sidecar that refreshes at each SIGHUP. The real one leaves gaps, which would make thousands of
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
func (w *world) assignAll() {
	for n := range pool {
		if n != int(w.newest.Load())%pool {
			w.snowflake.AddKeyPair(user, "KEY_"+string(rune('A'+n)), &key(n).RSA().PublicKey)
		}
	}
	w.assigned = true
}

func manyChanges(w *world, s scenario) time.Duration {
	w.assignAll()
	w.program = filepath.Join(eager, "sidecar")
	group, err := newGroup()
	if err != nil {
		cannot(w.t, err.Error())
	}
	w.t.Cleanup(func() { _ = os.Remove(group.path) })
	group.limit(w, 64<<20)
	w.startSidecarIn(group)
	w.startConsumer()
	w.adopted(0)
	w.readers = w.read()
	since := w.sidecar.mark()
	for range *changes {
		w.rotate()
		w.sidecar.signal(syscall.SIGHUP)
		w.follows()
	}
	queries := w.consumer.mark()
	took := w.adopted(queries)
	w.quiet(since)
	if n := w.sidecar.count(since, `"key published"`); n < *changes {
		w.t.Errorf("%d lines for %d changes", n, *changes)
	}
	return took
}

// follows waits for the newest key without a pause that would take longer than the change.
func (w *world) follows() {
	w.t.Helper()
	for began := time.Now(); !w.onDisk(keyfile.PEM); time.Sleep(time.Millisecond) { // the last to be written
		if time.Since(began) > timeout {
			w.t.Fatalf("the newest key was not published within %v", timeout)
		}
	}
}

// race makes two sidecars refresh at the same moments. One that fetched before a change may publish after the other,
// and corrects that at its next refresh.
func race(w *world, s scenario) time.Duration {
	w.assignAll()
	w.program = filepath.Join(eager, "sidecar")
	w.begin()
	w.readers.older.Store(true)
	first := w.sidecar
	delete(w.sidecarEnv, "SNOWKEY_METRICS_ADDR")
	w.startSidecar()
	second := w.sidecar
	eventually(w.t, "the second sidecar starts", func() bool { return second.said(0, `"started"`) })
	since, since2 := first.mark(), second.mark()
	crowd := &readers{t: w.t, dir: w.dir, newest: w.readers.newest, every: 500 * time.Microsecond}
	crowd.older.Store(true)
	crowd.start(8, keyfile.DER, keyfile.PEM)
	for range 200 {
		w.rotate()
		first.signal(syscall.SIGHUP)
		second.signal(syscall.SIGHUP)
		w.follows()
	}
	began := time.Now()
	time.Sleep(2 * interval) // by then both have refreshed again
	queries := w.consumer.mark()
	w.published()
	w.adopted(queries)
	took := time.Since(began)
	crowd.older.Store(false)
	w.readers.older.Store(false)
	time.Sleep(3 * interval)
	crowd.close()
	w.quiet(since2)
	if first.said(since, "refresh failed") {
		w.t.Error("a refresh of the first sidecar failed")
	}
	first.stop()
	return took
}

// killedAtRandom kills the sidecar at any moment of its start and, every other time, within a moment of the
// first file that it makes for a new key. It would pass without having tried anything if no kill ever came in
// the middle of a write: it counts those that did.
func killedAtRandom(w *world, s scenario) time.Duration {
	w.assignAll()
	w.begin()
	w.sidecar.kill()
	events, err := fsnotify.NewWatcher()
	if err != nil {
		w.t.Fatal(err)
	}
	defer events.Close()
	if err := events.Add(w.dir); err != nil {
		w.t.Fatal(err)
	}
	var leftovers, between int
	lifetime := 60 * time.Millisecond
	for i := range *kills {
		if w.onDisk(keyfile.DER) && w.onDisk(keyfile.PEM) {
			w.rotate()
		}
		drain(events)
		w.startSidecar()
		switch {
		case i%50 == 49: // is let live, and cleans up
			began := time.Now()
			w.published()
			lifetime = time.Since(began)
			w.noLeftovers()
		case i%2 == 0:
			time.Sleep(rand.N(lifetime * 5 / 4))
		default:
			firstFile(events)
			time.Sleep(rand.N(time.Millisecond))
		}
		w.sidecar.kill()
		if w.hasLeftovers() {
			leftovers++
		}
		if w.onDisk(keyfile.DER) != w.onDisk(keyfile.PEM) {
			between++
		}
	}
	w.t.Logf("of %d kills %d left a temporary file, %d came between two renames", *kills, leftovers, between)
	if leftovers == 0 || between == 0 {
		w.t.Error("no kill came in the middle of a write")
	}
	if w.onDisk(keyfile.DER) && w.onDisk(keyfile.PEM) {
		w.rotate()
	}
	began := time.Now()
	queries := w.consumer.mark()
	w.startSidecar()
	w.published()
	took := time.Since(began)
	w.adopted(queries)
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
