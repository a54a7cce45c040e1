package refresh

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// A Subscriber is notified of every outcome, in the goroutine of the refreshes and one at a time: Notify must not block.
// A subscriber that may be slow puts outcomes into a [Mailbox].
type Subscriber struct {
	Name   string
	Notify func(Outcome)
}

// slowSubscriber is how long a subscriber may take before the log names it.
const slowSubscriber = time.Second

func (s Subscriber) notify(o Outcome, log *slog.Logger) {
	began := time.Now()
	s.Notify(o)
	if took := time.Since(began); took > slowSubscriber {
		log.Warn("a subscriber delayed the refreshes", "subscriber", s.Name, "took", took.String())
	}
}

// A Mailbox keeps the last outcome of each key for a reader that may be slow.
type Mailbox struct {
	arrived chan struct{}

	mu     sync.Mutex
	order  []string // names of the keys with an unread outcome, the oldest first
	newest map[string]Outcome
}

// NewMailbox makes an empty Mailbox.
func NewMailbox() *Mailbox {
	return &Mailbox{arrived: make(chan struct{}, 1), newest: map[string]Outcome{}}
}

// Put replaces the key's unread outcome. It does not block.
func (m *Mailbox) Put(o Outcome) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, unread := m.newest[o.Key]; !unread {
		m.order = append(m.order, o.Key)
	}
	m.newest[o.Key] = o
	notify(m.arrived)
}

// Each calls read with the outcomes until ctx ends.
func (m *Mailbox) Each(ctx context.Context, read func(Outcome)) {
	for {
		for o, ok := m.take(); ok && ctx.Err() == nil; o, ok = m.take() {
			read(o)
		}
		select {
		case <-ctx.Done():
			return
		case <-m.arrived:
		}
	}
}

func (m *Mailbox) take() (o Outcome, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.order) == 0 {
		return Outcome{}, false
	}
	o = m.newest[m.order[0]]
	delete(m.newest, o.Key)
	m.order = m.order[1:]
	return o, true
}
