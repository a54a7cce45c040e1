package main

import (
	"os"
	"time"

	"github.com/snowkey/snowkey/internal/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
)

// A scenario is what happens during the middle phase. It may return before that is over.
type scenario struct {
	name   string
	during func(w *world) error
}

var scenarios = []scenario{
	{"good rotation", func(w *world) error { return w.rotate(2, 1) }},
	{"public key arrives 5 s late", func(w *world) error {
		if err := w.publishKey(1); err != nil {
			return err
		}
		time.Sleep(min(5*time.Second, w.phase*4/5))
		w.assign(2, 1)
		w.adopted(1, w.phase)
		return nil
	}},
	{"garbage file", func(w *world) error {
		if err := w.publish([]byte("garbage")); err != nil {
			return err
		}
		time.Sleep(w.phase / 2)
		return w.publishKey(0)
	}},
	{"file deleted and restored", func(w *world) error {
		if err := os.Remove(w.path); err != nil {
			return err
		}
		time.Sleep(w.phase / 2)
		return w.publishKey(0)
	}},
	{"all sessions ended", func(w *world) error {
		w.snowflake.EndSessions(390111)
		return nil
	}},
	{"rotation after rotation", func(w *world) error {
		for n, end := 1, time.Now().Add(w.phase); time.Now().Before(end); n++ {
			began := time.Now()
			if err := w.rotate(1+n%2, n%3); err != nil {
				return err
			}
			time.Sleep(time.Second - time.Since(began))
		}
		return nil
	}},
}

// rotate assigns the key to a slot, puts it into the file, and waits until the pool is on it.
func (w *world) rotate(slot, n int) error {
	w.assign(slot, n)
	if err := w.publish(keyfile.DER.Encode(testkey.Key(n))); err != nil {
		return err
	}
	w.adopted(n, time.Minute)
	return nil
}
