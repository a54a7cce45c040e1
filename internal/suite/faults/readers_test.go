//go:build faults

package faults

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// readers read the files again and again as programs in other languages do, at any moment. Each file has to
// be a whole key, of those that were stored, and never an older one than before.
type readers struct {
	t      *testing.T
	dir    string
	newest func() int // how many keys were stored
	every  time.Duration
	older  atomic.Bool // whether an older key may come back
	away   atomic.Bool // whether the volume may have no files at the moment
	reads  atomic.Int64
	stop   chan struct{}
	group  sync.WaitGroup
	once   sync.Once

	mu  sync.Mutex
	bad []string
}

func (f *fixture) read() *readers {
	r := &readers{t: f.t, dir: f.dir, every: 2 * time.Millisecond, newest: func() int { return int(f.newest.Load()) }}
	r.start(1, keyfile.DER, keyfile.PEM)
	return r
}

func (r *readers) start(each int, formats ...keyfile.Format) {
	r.stop = make(chan struct{})
	for range each {
		for _, f := range formats {
			r.group.Go(func() { r.follow(f) })
		}
		r.group.Go(func() {
			r.loop(func() {
				away := r.away.Load()
				_, err := keyfile.ReadStatus(r.dir)
				if err != nil && !errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrNotExist) && !away && !r.away.Load() {
					r.complain("%v", err)
				}
			})
		})
	}
	r.t.Cleanup(r.end)
}

func (r *readers) follow(f keyfile.Format) {
	last := 0
	r.loop(func() {
		away, before := r.away.Load(), r.newest()
		found, err := os.ReadFile(filepath.Join(r.dir, f.FileName()))
		if errors.Is(err, fs.ErrNotExist) && (away || r.away.Load()) {
			return
		}
		if err != nil {
			r.complain("%s: %v", f, err)
			return
		}
		// None is stored before the one before it is published.
		number := r.newest()
		oldest := max(before-1, last)
		if r.older.Load() {
			oldest = max(1, before-pool+1)
		}
		keys := contents(f)
		for number >= oldest && string(found) != keys[number%pool] {
			number--
		}
		if number < oldest {
			var numbers []int // where the key comes round in the pool, none for what is no whole key
			for n, text := range keys {
				if text == string(found) {
					numbers = append(numbers, n)
				}
			}
			r.complain("%s: of the %d keys stored it has none from key %d on, but %d bytes that are in the files of %v", f, r.newest(), oldest, len(found), numbers)
		}
		last = max(last, number)
	})
}

func (r *readers) loop(read func()) {
	for {
		select {
		case <-r.stop:
			return
		case <-time.After(r.every):
			read()
			r.reads.Add(1)
		}
	}
}

func (r *readers) complain(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.bad) < 10 {
		r.bad = append(r.bad, fmt.Sprintf(format, args...))
	}
}

func (r *readers) end() {
	r.once.Do(func() { close(r.stop) })
	r.group.Wait()
}

// close ends the readers and reports what they should not have seen.
func (r *readers) close() {
	r.t.Helper()
	r.end()
	for _, bad := range r.bad {
		r.t.Error(bad)
	}
	if r.reads.Load() < 50 {
		r.t.Errorf("only %d reads", r.reads.Load())
	}
}
