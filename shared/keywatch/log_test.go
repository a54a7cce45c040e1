package keywatch_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A logOf collects log lines, to wait for one and to count them.
type logOf struct {
	mu      sync.Mutex
	lines   []line
	changed chan struct{} // closed with the next line
}

type line struct {
	level slog.Level
	text  string
	attrs map[string]string
}

func newLog() *logOf { return &logOf{changed: make(chan struct{})} }

func (l *logOf) logger() *slog.Logger { return slog.New(l) }

// Enabled implements slog.Handler.
func (l *logOf) Enabled(context.Context, slog.Level) bool { return true }

// WithAttrs implements slog.Handler; keywatch does not use it.
func (l *logOf) WithAttrs([]slog.Attr) slog.Handler { panic("WithAttrs") }

// WithGroup implements slog.Handler; keywatch does not use it.
func (l *logOf) WithGroup(string) slog.Handler { panic("WithGroup") }

// Handle implements slog.Handler.
func (l *logOf) Handle(_ context.Context, r slog.Record) error {
	added := line{r.Level, r.Message, map[string]string{}}
	r.Attrs(func(a slog.Attr) bool { added.attrs[a.Key] = a.Value.String(); return true })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, added)
	close(l.changed)
	l.changed = make(chan struct{})
	return nil
}

// of returns the lines with this text.
func (l *logOf) of(text string) (found []line, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	found = slices.DeleteFunc(slices.Clone(l.lines), func(x line) bool { return x.text != text })
	return found, l.changed
}

func (l *logOf) count(text string) int {
	found, _ := l.of(text)
	return len(found)
}

// wait waits until there are n lines with this text.
func (l *logOf) wait(t *testing.T, text string, n int) []line {
	t.Helper()
	deadline := time.After(timeout)
	for {
		found, changed := l.of(text)
		if len(found) >= n {
			return found
		}
		select {
		case <-changed:
		case <-deadline:
			t.Errorf("%d of %d lines %q in:\n%s", len(found), n, text, l)
			return append(found, make([]line, n-len(found))...)
		}
	}
}

func (l *logOf) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all strings.Builder
	logger := slog.New(slog.NewTextHandler(&all, nil))
	for _, x := range l.lines {
		logger.Log(context.Background(), x.level, x.text, "attrs", x.attrs)
	}
	return all.String()
}
