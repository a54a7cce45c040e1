package main

import (
	"os"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
)

// A scenario is what happens during the middle phase. It may return before that is over.
type scenario struct {
	name   string
	lasts  time.Duration // the middle phase, if that is longer than the others
	during func(w *fixture) error
}

var scenarios = []scenario{
	{"good rotation", 0, func(w *fixture) error { return w.rotate(2, 1) }},
	{"public key arrives 5 s late", 10 * time.Second, func(w *fixture) error {
		if err := w.publishKey(1); err != nil {
			return err
		}
		time.Sleep(5 * time.Second)
		w.assign(2, 1)
		return nil
	}},
	{"garbage file", 0, func(w *fixture) error {
		if err := w.publish([]byte("garbage")); err != nil {
			return err
		}
		time.Sleep(w.phase / 2)
		return w.publishKey(0)
	}},
	{"file deleted and restored", 0, func(w *fixture) error {
		if err := os.Remove(w.path); err != nil {
			return err
		}
		time.Sleep(w.phase / 2)
		return w.publishKey(0)
	}},
	{"all sessions ended", 0, func(w *fixture) error {
		w.snowflake.EndSessions(390111)
		return nil
	}},
	{"50 rotations in 50 s", 50 * time.Second, func(w *fixture) error {
		second := time.NewTicker(time.Second)
		defer second.Stop()
		for n := range 50 {
			w.assign(1+n%2, (n+1)%3)
			if err := w.publishKey((n + 1) % 3); err != nil {
				return err
			}
			<-second.C
		}
		return nil
	}},
}

// rotate assigns the key to a slot, puts it into the file, and waits until the pool is on it.
func (w *fixture) rotate(slot, n int) error {
	w.assign(slot, n)
	if err := w.publish(keyfile.DER.Encode(testkey.Key(n))); err != nil {
		return err
	}
	w.adopted(n, time.Minute)
	return nil
}
