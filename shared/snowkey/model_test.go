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

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/snowkey"
)

var (
	seed  = flag.Uint64("seed", 0, "seed of TestModel_RandomEvents; 0 for a new one")
	steps = flag.Int("steps", 0, "steps of TestModel_RandomEvents on simulated time, and a tenth of them over HTTP; 0 for 200 and 30, with -long 3000 and 300.")
)

// modelSteps is how many steps the model makes on simulated time and over HTTP.
func modelSteps() (simulated, http int) {
	if *steps > 0 {
		return *steps, *steps / 10
	}
	return testenv.Times(200, 3000), testenv.Times(30, 300)
}

// A model makes random events happen: an operator's actions and failures. It always keeps the serving key assigned. Then
// the pool guarantees:
//   - no query fails,
//   - no query runs on a key that was never assigned,
//   - no statement runs twice,
//   - in the end the newest key serves.
type model struct {
	*fixture
	random    *rand.Rand
	connector *snowkey.Connector
	serving   int // serving key
	slot      int // of that key
	next      int // next key to publish
	assigned  map[int]bool
	trace     []string
}

// keysInTurn is the number of keys that take turns, so that a key returns long after the pool has left it.
const keysInTurn = 6

func TestModel_RandomEvents(t *testing.T) {
	testenv.Slow(t)
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	simulated, http := modelSteps()
	// database/sql closes a prepared statement under a lock that another query may hold while it waits, which
	// would stop simulated time.
	t.Run("on simulated time", func(t *testing.T) {
		onSimulatedTime(t, func(s *fixture, start starter) { randomEvents(s, start, simulated, "exec", "query", "Arrow") })
	})
	t.Run("over HTTP", func(t *testing.T) {
		s := newFixture(t, localsnowflake.WithHistory(1<<20))
		randomEvents(s, s.connector, http, slices.Sorted(maps.Keys(waysToSend))...)
	})
}

func randomEvents(s *fixture, start starter, n int, ways ...string) {
	m := &model{fixture: s, random: rand.New(rand.NewPCG(*seed, 1)), slot: 1, next: 1, assigned: map[int]bool{0: true}}
	var db *sql.DB
	m.connector, db = start(snowkey.WithPollInterval(20 * time.Millisecond))
	defer db.Close()
	db.SetMaxIdleConns(4)
	s.snowflake.SetQueryLatency(3 * time.Millisecond)

	load := startStatements(s.t, db, 4, ways)
	defer load.end()
	for range n {
		m.step()
	}
	m.rotate()
	ran := load.count.Load()
	eventually(s.t, "queries in the end", func() bool { return load.count.Load() > ran+20 })
	load.end()
	m.check()
	if s.t.Failed() {
		simulated, _ := modelSteps()
		s.t.Logf("repeat with: go test ./shared/snowkey -run %s -steps %d -seed %d\n%v", s.t.Name(), simulated, *seed, m.trace)
	}
	s.t.Logf("%d queries, %d rotations", load.count.Load(), m.connector.Stats().Rotations)
}

// step makes one random event happen.
func (m *model) step() {
	events := []struct {
		name string
		do   func()
	}{
		{"rotate", m.rotate},
		{"late public key", m.assignLate},
		{"withdrawn key", m.withdraw},
		{"garbage", func() { m.spoil([]byte("garbage")) }},
		{"half a key", func() { m.spoil([]byte("0\x82\x04\xbd\x02\x01\x00")) }},
		{"no file", m.remove},
		{"sessions end", m.endSessions},
		{"slow logins", func() { m.snowflake.SetLoginLatency(time.Duration(m.random.IntN(20)) * time.Millisecond) }},
		{"pause", func() { time.Sleep(time.Duration(m.random.IntN(10)) * time.Millisecond) }},
	}
	event := events[m.random.IntN(len(events))]
	m.trace = append(m.trace, event.name)
	event.do()
}

// newKey returns a key that does not serve.
func (m *model) newKey() int {
	n := m.next
	m.next = (m.next + 1) % keysInTurn
	if m.next == m.serving {
		m.next = (m.next + 1) % keysInTurn
	}
	return n
}

// settle waits until key n, whose public key is in slot, serves.
func (m *model) settle(n, slot int) {
	want := testkey.Key(n).Fingerprint()
	eventually(m.t, "key "+fmt.Sprint(n), func() bool { return m.connector.Stats().ServingFingerprint == want })
	m.serving, m.slot = n, slot
}

func (m *model) rotate() {
	n, other := m.newKey(), 3-m.slot
	m.assign(other, n)
	m.assigned[n] = true
	m.publish(n)
	m.settle(n, other)
}

// assignLate publishes a key before its public key is assigned.
func (m *model) assignLate() {
	n, other := m.newKey(), 3-m.slot
	m.publish(n)
	time.Sleep(time.Duration(m.random.IntN(30)) * time.Millisecond)
	m.assign(other, n)
	m.assigned[n] = true
	m.settle(n, other)
}

// withdraw publishes a key that is never assigned, and then the serving key again.
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
	assigned := map[string]bool{}
	for n := range m.assigned {
		assigned[testkey.Key(n).Fingerprint()] = true
	}
	runs := map[string]int{}
	for _, statement := range m.snowflake.Statements() {
		if !assigned[statement.Fingerprint] {
			m.t.Errorf("ran on a key that was never assigned: %+v", statement)
		}
		runs[statement.Text] += statement.Executions
	}
	for text, n := range runs {
		if n > 1 {
			m.t.Errorf("%s ran %d times", text, n)
		}
	}
	if got, want := m.connector.Stats().ServingFingerprint, testkey.Key(m.serving).Fingerprint(); got != want {
		m.t.Errorf("in the end %s serves, want %s", got, want)
	}
}

// A statementLoad sends statements, each with another text, from several goroutines.
type statementLoad struct {
	count   atomic.Int64
	stopped atomic.Bool
	workers sync.WaitGroup
}

func startStatements(t *testing.T, db *sql.DB, workers int, ways []string) *statementLoad {
	l := new(statementLoad)
	for range workers {
		l.workers.Go(func() {
			for !l.stopped.Load() {
				n := l.count.Add(1)
				text := fmt.Sprintf("SELECT 'statement %d'", n)
				way := ways[int(n)%len(ways)]
				if err := waysToSend[way](context.Background(), db, text); err != nil {
					t.Errorf("%s: %s: %v", way, text, err)
				}
			}
		})
	}
	return l
}

func (l *statementLoad) end() {
	l.stopped.Store(true)
	l.workers.Wait()
}
