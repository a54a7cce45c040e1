package snowkey_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/snowkey"
)

func TestEvents_PrintNoKey(t *testing.T) {
	s := newFixture(t)
	var out syncBuffer
	c, db := s.connector(snowkey.WithEvents(func(e snowkey.Event) { fmt.Fprintf(&out, "%v %+v %#v\n", e, e, e) }))
	s.assign(2, 1)
	s.publish(1)
	s.expectKey(db, 1)
	fmt.Fprintf(&out, "%+v %#v\n", c.Stats(), c.Stats())
	for n := range 2 {
		d := testkey.Key(n).RSA().D
		if strings.Contains(out.String(), d.String()) || strings.Contains(out.String(), d.Text(16)) {
			t.Error("a key is in the output")
		}
	}
}

// Close delivers the events that came while the callback was running.
func TestEvents_DeliveredBeforeCloseReturns(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	var mu sync.Mutex
	var got []snowkey.Event
	called, release := make(chan struct{}, 10), make(chan struct{})
	c, db := s.connector(snowkey.WithEvents(func(e snowkey.Event) {
		called <- struct{}{}
		<-release
		mu.Lock()
		got = append(got, e)
		mu.Unlock()
	}))
	<-called // the callback runs for the first activation
	s.assign(2, 1)
	s.publish(1)
	eventually(t, "rotation", func() bool { return c.Stats().Rotations == 1 })
	time.AfterFunc(200*time.Millisecond, func() { close(release) })
	db.Close()
	mu.Lock()
	defer mu.Unlock()
	if len(got) != 2 {
		t.Errorf("%d events: %+v", len(got), got)
	}
}

// Neither queries nor rotations wait for the callback of WithEvents.
func TestEvents_CallbackDelaysNoQuery(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	s := newFixture(t)
	var started atomic.Bool
	release := make(chan struct{})
	c, db := s.connector(snowkey.WithPollInterval(time.Hour), snowkey.WithEvents(func(e snowkey.Event) {
		if e.Kind == snowkey.KeyActivated && started.Load() {
			<-release
		}
	}))
	defer close(release)
	db.SetMaxIdleConns(0)
	s.expectKey(db, 0)
	s.publish(1)
	eventually(t, "refusals", func() bool { return c.Stats().RefusedLogins >= 4 })
	started.Store(true)
	s.assign(1, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := query(ctx, db); err != nil {
		t.Fatalf("while the callback waits: %v", err)
	}
}
