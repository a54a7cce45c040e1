package logwriter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/term"
)

// A Format is how lines are written. The keys in them are the same in each.
type Format string

// The formats.
const (
	Auto Format = "auto" // Text on a terminal, JSON elsewhere
	Text Format = "text" // for people
	JSON Format = "json"
)

// ParseFormat returns the format of that name.
func ParseFormat(name string) (Format, error) {
	switch f := Format(name); f {
	case Auto, Text, JSON:
		return f, nil
	}
	return Auto, errors.New("write auto, text or json")
}

// handler makes handlers for a log that ends up in w.
func (f Format) handler(w io.Writer) func(io.Writer) slog.Handler {
	if f == Text || f == Auto && IsTerminal(w) {
		return newTextHandler
	}
	return func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) }
}

// IsTerminal reports whether a person reads w.
func IsTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// A textHandler begins a line with time, level and message, which have no keys there. The rest is slog's text, in which no
// value can break the line or move the cursor.
type textHandler struct {
	slog.Handler // writes into line

	line *bytes.Buffer
	mu   *sync.Mutex // of line
	out  io.Writer
}

func newTextHandler(out io.Writer) slog.Handler {
	line := new(bytes.Buffer)
	withoutBuiltIn := func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
			return slog.Attr{}
		}
		return a
	}
	return &textHandler{slog.NewTextHandler(line, &slog.HandlerOptions{ReplaceAttr: withoutBuiltIn}), line, new(sync.Mutex), out}
}

func (h *textHandler) Handle(ctx context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.line.Reset()
	fmt.Fprintf(h.line, "%s %-5s %s ", r.Time.Format(time.DateTime), r.Level, printable(r.Message))
	if err := h.Handler.Handle(ctx, r); err != nil {
		return err
	}
	_, err := h.out.Write(append(bytes.TrimRight(h.line.Bytes(), " \n"), '\n'))
	return err
}

func (h *textHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	with.Handler = h.Handler.WithAttrs(attrs)
	return &with
}

func (h *textHandler) WithGroup(name string) slog.Handler {
	with := *h
	with.Handler = h.Handler.WithGroup(name)
	return &with
}

func printable(message string) string {
	if strings.ContainsFunc(message, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(message)
	}
	return message
}
