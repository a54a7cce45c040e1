package snowkey_test

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/localsnowflake"
	"github.com/snowkey/snowkey/internal/testkey"
	"github.com/snowkey/snowkey/shared/snowkey"
)

var (
	seed  = flag.Uint64("seed", 0, "of TestAnyOrderOfEvents; 0 for a new one")
	steps = flag.Int("steps", 3000, "of TestAnyOrderOfEvents, on simulated time; a tenth over HTTP, a fifth with the race detector")
)

// A model is what an operator does and knows. It keeps the serving key assigned at all times, which is
// all that it takes for this to hold:
//   - no query fails,
//   - no query runs on a key that was never assigned,
//   - no statement runs twice,
//   - in the end the pool is on the newest key.
type model struct {
	*setting
	random    *rand.Rand
	connector *snowkey.Connector
	serving   int // key that the pool is known to be on
	slot      int // of that key
	next      int // key that was never used
	assigned  map[int]bool
	trace     []string
}

// Keys are used again after this many, when the pool has long left them.
const keysInTurn = 6

func TestAnyOrderOfEvents(t *testing.T) {
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	steps := *steps
	if snowkey.RaceEnabled {
		steps /= 5
	}
	// A prepared statement is closed under a lock that another query may hold as it waits, and simulated
	// time with it.
	t.Run("on simulated time", func(t *testing.T) {
		onSimulatedTime(t, func(s *setting, start starter) { anyOrderOfEvents(s, start, steps, "exec", "query", "Arrow") })
	})
	t.Run("over HTTP", func(t *testing.T) {
		s := newSetting(t, localsnowflake.WithHistory(1<<20))
		anyOrderOfEvents(s, s.connector, steps/10, slices.Sorted(maps.Keys(waysToAsk))...)
	})
}

func anyOrderOfEvents(s *setting, start starter, steps int, ways ...string) {
	m := &model{setting: s, random: rand.New(rand.NewPCG(*seed, 1)), slot: 1, next: 1, assigned: map[int]bool{0: true}}
	var db *sql.DB
	m.connector, db = start(snowkey.WithPollInterval(20 * time.Millisecond))
	defer db.Close()
	db.SetMaxIdleConns(4)
	s.snowflake.SetQueryLatency(3 * time.Millisecond)

	ask := asking(s.t, db, 4, ways)
	defer ask.end()
	for range steps {
		m.step()
	}
	m.rotate()
	ran := ask.count.Load()
	eventually(s.t, "queries after all", func() bool { return ask.count.Load() > ran+20 })
	ask.end()
	m.check()
	if s.t.Failed() {
		s.t.Logf("again with: go test ./shared/snowkey -run AnyOrder -seed %d\n%v", *seed, m.trace)
	}
	s.t.Logf("%d queries, %d rotations", ask.count.Load(), m.connector.Stats().Rotations)
}

// step does one thing that can happen.
func (m *model) step() {
	deeds := []struct {
		name string
		do   func()
	}{
		{"rotate", m.rotate},
		{"late key", m.late},
		{"withdrawn key", m.withdraw},
		{"garbage", func() { m.spoil([]byte("garbage")) }},
		{"half a key", func() { m.spoil([]byte("0\x82\x04\xbd\x02\x01\x00")) }},
		{"no file", m.remove},
		{"sessions end", m.endSessions},
		{"slow logins", func() { m.snowflake.SetLoginLatency(time.Duration(m.random.IntN(20)) * time.Millisecond) }},
		{"pause", func() { time.Sleep(time.Duration(m.random.IntN(10)) * time.Millisecond) }},
	}
	deed := deeds[m.random.IntN(len(deeds))]
	m.trace = append(m.trace, deed.name)
	deed.do()
}

func (m *model) newest() int {
	n := m.next
	m.next = (m.next + 1) % keysInTurn
	if m.next == m.serving {
		m.next = (m.next + 1) % keysInTurn
	}
	return n
}

// settle waits until the pool is on key n, in the slot where that is.
func (m *model) settle(n, slot int) {
	want := testkey.Key(n).Fingerprint()
	eventually(m.t, "key "+fmt.Sprint(n), func() bool { return m.connector.Stats().Serving == want })
	m.serving, m.slot = n, slot
}

func (m *model) rotate() {
	n, other := m.newest(), 3-m.slot
	m.assign(other, n)
	m.assigned[n] = true
	m.publish(n)
	m.settle(n, other)
}

// late is a key whose public key comes after it.
func (m *model) late() {
	n, other := m.newest(), 3-m.slot
	m.publish(n)
	time.Sleep(time.Duration(m.random.IntN(30)) * time.Millisecond)
	m.assign(other, n)
	m.assigned[n] = true
	m.settle(n, other)
}

// withdraw is a key that is never assigned and goes again.
func (m *model) withdraw() {
	const never = keysInTurn
	m.publish(never)
	time.Sleep(time.Duration(m.random.IntN(30)) * time.Millisecond)
	m.publish(m.serving)
}

func (m *model) spoil(content []byte) {
	if err := os.WriteFile(m.path, content, 0o600); err != nil {
		m.t.Fatal(err)
	}
	if m.random.IntN(2) == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	m.publish(m.serving)
}

func (m *model) remove() {
	if err := os.Remove(m.path); err != nil {
		m.t.Fatal(err)
	}
	time.Sleep(time.Duration(m.random.IntN(30)) * time.Millisecond)
	m.publish(m.serving)
}

// endSessions ends all sessions, or one of them.
func (m *model) endSessions() {
	code := endings[m.random.IntN(len(endings))]
	open := m.snowflake.Sessions()
	if len(open) > 0 && m.random.IntN(2) == 0 {
		m.snowflake.EndSessions(code, open[m.random.IntN(len(open))].ID)
		return
	}
	m.snowflake.EndSessions(code)
}

func (m *model) check() {
	ever := map[string]bool{}
	for n := range m.assigned {
		ever[testkey.Key(n).Fingerprint()] = true
	}
	runs := map[string]int{}
	for _, statement := range m.snowflake.Statements() {
		if !ever[statement.Fingerprint] {
			m.t.Errorf("ran on a key that was never assigned: %+v", statement)
		}
		runs[statement.Text] += statement.Executions
	}
	for text, n := range runs {
		if n > 1 {
			m.t.Errorf("%s ran %d times", text, n)
		}
	}
	if got, want := m.connector.Stats().Serving, testkey.Key(m.serving).Fingerprint(); got != want {
		m.t.Errorf("in the end the pool is on %s, want %s", got, want)
	}
}

// questions are queries, each of another text.
type questions struct {
	count   atomic.Int64
	stopped atomic.Bool
	workers sync.WaitGroup
}

func asking(t *testing.T, db *sql.DB, workers int, ways []string) *questions {
	q := new(questions)
	for range workers {
		q.workers.Go(func() {
			for !q.stopped.Load() {
				n := q.count.Add(1)
				text := fmt.Sprintf("SELECT 'question %d'", n)
				way := ways[int(n)%len(ways)]
				if err := waysToAsk[way](context.Background(), db, text); err != nil {
					t.Errorf("%s: %s: %v", way, text, err)
				}
			}
		})
	}
	return q
}

func (q *questions) end() {
	q.stopped.Store(true)
	q.workers.Wait()
}
