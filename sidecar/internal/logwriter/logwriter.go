// Package logwriter writes a log that never waits for its reader and never ends the process.
//
// The reader of a log may end, or stop to read: awslogs in its blocking mode does while CloudWatch is out of reach. That
// must not stop a key from being published or a task from ending. Lines that find no room are lost, and counted in a line
// of their own.
package logwriter

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// maxLines is how many lines may wait for the reader.
	maxLines = 256
	// flushTimeout bounds the wait for them at the end.
	flushTimeout = 500 * time.Millisecond
)

// New makes a log that a goroutine writes to w. flush ends the goroutine and writes the lines that still wait.
func New(w io.Writer, f Format) (log *slog.Logger, flush func()) {
	handler := f.handler(w)
	q := &queue{
		lines: make(chan []byte, maxLines), stop: make(chan struct{}), done: make(chan struct{}),
		reportLost: func(lost int64) {
			slog.New(handler(w)).Warn("lines of the log were lost", "lines", lost,
				"advice", "see why the log driver did not take them in time; the key was kept fresh meanwhile")
		},
	}
	// Without a reader the signal would end the process, which also writes after `exec` has stopped catching signals.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	go q.writeTo(w)
	return slog.New(handler(q)), q.flush
}

// A queue holds lines until they are written.
type queue struct {
	lines      chan []byte
	lost       atomic.Int64
	stop, done chan struct{}
	reportLost func(lines int64)
}

func (q *queue) Write(line []byte) (int, error) {
	select {
	case q.lines <- bytes.Clone(line):
	default:
		q.lost.Add(1)
	}
	return len(line), nil
}

func (q *queue) writeTo(w io.Writer) {
	defer close(q.done)
	for {
		select {
		case line := <-q.lines:
			_, _ = w.Write(line)
			q.writeWaiting(w)
		case <-q.stop:
			q.writeWaiting(w)
			return
		}
	}
}

// writeWaiting writes the lines that wait, and how many found no room meanwhile.
func (q *queue) writeWaiting(w io.Writer) {
	for len(q.lines) > 0 {
		_, _ = w.Write(<-q.lines)
	}
	if lost := q.lost.Swap(0); lost > 0 {
		q.reportLost(lost)
	}
}

func (q *queue) flush() {
	close(q.stop)
	select {
	case <-q.done:
	case <-time.After(flushTimeout):
	}
}
