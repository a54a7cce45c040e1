package process

import (
	"bytes"
	"slices"
	"strings"
	"sync"
)

// An Output is what a process prints. It can be read while the process runs. Its zero value is empty.
type Output struct {
	onLine func(string)

	mu   sync.Mutex
	text bytes.Buffer
	told int // how much of text onLine has had
}

// A Mark is a place in an Output.
type Mark int

// Write appends text.
func (o *Output) Write(text []byte) (int, error) {
	o.mu.Lock()
	o.text.Write(text)
	var lines []string
	if o.onLine != nil {
		lines = o.newLines()
	}
	o.mu.Unlock()
	for _, line := range lines {
		o.onLine(line)
	}
	return len(text), nil
}

// newLines are the complete lines that onLine has not had.
func (o *Output) newLines() (lines []string) {
	for {
		line, _, complete := bytes.Cut(o.text.Bytes()[o.told:], []byte("\n"))
		if !complete {
			return lines
		}
		lines = append(lines, string(line))
		o.told += len(line) + 1
	}
}

// String is all of the text.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Mark is the end of what was printed so far.
func (o *Output) Mark() Mark {
	o.mu.Lock()
	defer o.mu.Unlock()
	return Mark(o.text.Len())
}

// Lines are those printed since a mark, which is 0 for all of them.
func (o *Output) Lines(since Mark) []string {
	o.mu.Lock()
	text := strings.TrimSuffix(string(o.text.Bytes()[since:]), "\n")
	o.mu.Unlock()
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// Count is how many lines since a mark have all of the pieces.
func (o *Output) Count(since Mark, pieces ...string) (n int) {
	for _, line := range o.Lines(since) {
		lacks := func(piece string) bool { return !strings.Contains(line, piece) }
		if !slices.ContainsFunc(pieces, lacks) {
			n++
		}
	}
	return n
}

// Said reports whether a line since a mark has all of the pieces.
func (o *Output) Said(since Mark, pieces ...string) bool { return o.Count(since, pieces...) > 0 }
