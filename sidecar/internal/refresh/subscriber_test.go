package refresh

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testkey"
)

func TestSubscribers_AreNotifiedInOrder(t *testing.T) {
	var notified []string
	f := start(t, func(o *Options, _ *Key) {
		for i := range 3 {
			o.Subscribers = append(o.Subscribers, Subscriber{fmt.Sprint(i), func(Outcome) { notified = append(notified, fmt.Sprint(i)) }})
		}
	})
	f.source.set(testkey.Key(0))
	_ = f.Refresh(t.Context())
	if !slices.Equal(notified, []string{"0", "1", "2"}) {
		t.Errorf("notified %v", notified)
	}
}

func TestSubscribers_SlowOneIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, func(o *Options, _ *Key) {
			o.Subscribers = []Subscriber{{"quick", func(Outcome) {}}, {"slow", func(Outcome) { time.Sleep(2 * slowSubscriber) }}}
		})
		f.source.set(testkey.Key(0))
		_ = f.Refresh(t.Context())
		if log := f.log.String(); !strings.Contains(log, "subscriber=slow") || strings.Contains(log, "subscriber=quick") {
			t.Errorf("log:\n%s", log)
		}
	})
}

// A reader that hangs delays nothing, and gets the newest outcome of each key afterwards.
func TestMailbox_KeepsNewestOfEachKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		m, release := NewMailbox(), make(chan struct{})
		var read []string
		done := make(chan struct{})
		go func() {
			defer close(done)
			m.Each(ctx, func(o Outcome) {
				<-release
				read = append(read, o.Key+o.Status.Version)
			})
		}()
		put := func(key, version string) {
			o := Outcome{Key: key}
			o.Status.Version = version
			m.Put(o)
		}
		put("a", "1")
		synctest.Wait()
		put("a", "2")
		put("b", "1")
		put("a", "3")
		close(release)
		synctest.Wait()
		if want := []string{"a1", "a3", "b1"}; !slices.Equal(read, want) {
			t.Errorf("read %v, want %v", read, want)
		}
		cancel()
		<-done
	})
}
