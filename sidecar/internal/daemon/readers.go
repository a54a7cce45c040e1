package daemon

import (
	"log/slog"
	"sync"
	"time"

	"github.com/snowkey/snowkey/sidecar/internal/keysocket"
	"github.com/snowkey/snowkey/sidecar/internal/metrics"
)

const (
	// maxUsers bounds the users that are remembered for each key, and so the lines of the log.
	maxUsers = 64
	// refusalGap is the time between two lines about readers of a key that are refused.
	refusalGap = time.Minute
)

// readers count who reads keys at sockets, and log each user once.
type readers struct {
	counts   *metrics.Metrics
	embedded *metrics.Embedded
	log      *slog.Logger
	refresh  func() // called when another sidecar has published a newer key
}

// A user is a uid here or in another container: the first read of each is logged.
type user struct {
	uid  uint32
	here bool
}

// of counts the readers of one key.
func (r readers) of(key string) func(keysocket.Read) {
	log := r.log
	if key != "" {
		log = log.With("key", key)
	}
	var mu sync.Mutex
	users := map[user]bool{}
	var refused time.Time
	return func(read keysocket.Read) {
		r.counts.ObserveRead(key, read.Refused)
		r.embedded.ObserveRead(key, read.Refused)
		by := user{read.UID, read.PID != 0}
		mu.Lock()
		defer mu.Unlock()
		switch {
		case read.Refused != nil && time.Since(refused) >= refusalGap:
			refused = time.Now()
			log.Warn("a reader got no key", "error", read.Refused.Error(), "socket", read.Format.SocketName())
		case read.Refused == nil && !users[by] && len(users) < maxUsers:
			users[by] = true
			attributes := []any{"uid", read.UID, "socket", read.Format.SocketName()}
			if by.here {
				attributes = append(attributes, "pid", read.PID)
			}
			log.Info("a user read the key for the first time", attributes...)
		}
	}
}
