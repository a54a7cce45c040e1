package logwriter

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// written is what a log of that format writes.
func written(t *testing.T, f Format, log func(*slog.Logger)) string {
	t.Helper()
	var b bytes.Buffer
	l, flush := New(&b, f)
	log(l)
	flush()
	return b.String()
}

func TestFormat_TextHasTheKeysOfJSON(t *testing.T) {
	log := func(l *slog.Logger) {
		l.With("key", "etl").WithGroup("of").Warn("refresh failed", "error", errors.New("no parameter /app/key"), "failures", 2)
	}
	var line struct {
		Level, Msg, Key string
		Of              struct {
			Error    string
			Failures int
		}
	}
	if err := json.Unmarshal([]byte(written(t, JSON, log)), &line); err != nil || line.Level != "WARN" || line.Msg != "refresh failed" || line.Key != "etl" || line.Of.Failures != 2 {
		t.Errorf("%+v, %v", line, err)
	}
	text := written(t, Text, log)
	if want := ` WARN  refresh failed key=etl of.error="no parameter /app/key" of.failures=2` + "\n"; !strings.HasSuffix(text, want) {
		t.Errorf("%q does not end in %q", text, want)
	}
	if len(strings.Fields(text)[0]) != len("2006-01-02") {
		t.Errorf("%q does not begin with the time", text)
	}
}

func TestFormat_LineWithoutKeysEndsInItsMessage(t *testing.T) {
	if text := written(t, Text, func(l *slog.Logger) { l.Info("stopped") }); !strings.HasSuffix(text, " INFO  stopped\n") {
		t.Errorf("%q", text)
	}
}

func TestFormat_NoValueBreaksALine(t *testing.T) {
	text := written(t, Text, func(l *slog.Logger) { l.Info("a\nb", "c", "d\x1b[2J\ne") })
	if strings.Count(text, "\n") != 1 || strings.Contains(text, "\x1b") {
		t.Errorf("%q", text)
	}
}

func TestFormat_NoneHasASecret(t *testing.T) {
	for _, f := range []Format{Auto, Text, JSON} {
		text := written(t, f, func(l *slog.Logger) { l.Info("line", "secret", secret.New([]byte("hunter2"))) })
		if strings.Contains(text, "hunter2") || !strings.Contains(text, "line") {
			t.Errorf("%s: %q", f, text)
		}
	}
}

func TestFormat_AutoIsJSONOffATerminal(t *testing.T) {
	if text := written(t, Auto, func(l *slog.Logger) { l.Info("line") }); !strings.HasPrefix(text, "{") {
		t.Errorf("%q", text)
	}
}

func TestParseFormat_RefusesOthers(t *testing.T) {
	if _, err := ParseFormat("logfmt"); err == nil || !strings.Contains(err.Error(), "auto, text or json") {
		t.Errorf("error %v", err)
	}
}
