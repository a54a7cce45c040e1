package logwriter

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"
)

// A gate is a writer that takes nothing until it is opened.
type gate struct {
	opened chan struct{}
	bytes.Buffer
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.opened
	return g.Buffer.Write(p)
}

func TestNew_CountsLostLinesAndNeverBlocks(t *testing.T) {
	g := &gate{opened: make(chan struct{})}
	log, flush := New(g, Auto)
	const all = 1000
	began := time.Now()
	for i := range all {
		log.Info("line", "n", i)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("%d lines took %v without a reader", all, took)
	}
	close(g.opened)
	flush()
	lines, lost, last := 0, 0, -1
	for text := range strings.Lines(g.String()) {
		var l struct {
			Msg      string
			N, Lines int
		}
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if l.Msg == "line" {
			if l.N <= last {
				t.Errorf("line %d comes after %d", l.N, last)
			}
			lines, last = lines+1, l.N
		}
		lost += l.Lines
	}
	if lines < maxLines || lines+lost != all {
		t.Errorf("of %d lines %d were written and %d counted as lost", all, lines, lost)
	}
}

func TestFlush_DoesNotWaitForTheReader(t *testing.T) {
	reader, writer := io.Pipe()
	log, flush := New(writer, Auto)
	log.Info("unread")
	began := time.Now()
	flush()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("flush took %v", took)
	}
	reader.Close()
}
