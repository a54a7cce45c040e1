package main

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
	// maxLines is how many lines may wait for whoever reads them.
	maxLines = 256
	// lastLinesWithin bounds the wait for them at the end.
	lastLinesWithin = 500 * time.Millisecond
)

// logTo gives a log that never waits and never ends the process: whoever reads it may go, or stop to read, such
// as awslogs in its blocking mode while CloudWatch cannot be reached, and that must not keep a key from being
// published or a task from ending. Lines that find no room are lost, and counted in one that is not. end writes what is left.
func logTo(w io.Writer) (log *slog.Logger, end func()) {
	q := &lineQueue{lines: make(chan []byte, maxLines), stop: make(chan struct{}), done: make(chan struct{})}
	// Without a reader the signal would end the process, which also writes after `exec` has let go of signals.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	go q.writeTo(w)
	return slog.New(slog.NewJSONHandler(q, nil)), q.end
}

// A lineQueue is written to by many and writes in a goroutine of its own.
type lineQueue struct {
	lines      chan []byte
	lost       atomic.Int64
	stop, done chan struct{}
}

func (q *lineQueue) Write(line []byte) (int, error) {
	select {
	case q.lines <- bytes.Clone(line):
	default:
		q.lost.Add(1)
	}
	return len(line), nil
}

func (q *lineQueue) writeTo(w io.Writer) {
	defer close(q.done)
	for {
		select {
		case line := <-q.lines:
			_, _ = w.Write(line)
			q.write(w)
		case <-q.stop:
			q.write(w)
			return
		}
	}
}

// write writes what waits, and how many lines have found no room meanwhile.
func (q *lineQueue) write(w io.Writer) {
	for len(q.lines) > 0 {
		_, _ = w.Write(<-q.lines)
	}
	if lost := q.lost.Swap(0); lost > 0 {
		slog.New(slog.NewJSONHandler(w, nil)).Warn("lines of the log were lost", "lines", lost,
			"what_to_do", "see why the log driver did not take them in time; the key was kept fresh meanwhile")
	}
}

func (q *lineQueue) end() {
	close(q.stop)
	select {
	case <-q.done:
	case <-time.After(lastLinesWithin):
	}
}
