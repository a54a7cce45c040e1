//go:build clients

package clients

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
)

// What every driver has to find in a session, in the order in which the programs in testdata ask.
const (
	rows = `row|1|one|1.25
row|2|NULL|-0.25
row|3|three|NULL
`
	session = `waited|waited 200 milliseconds
in a transaction|1
error|2003|42S02
same session|true
`
)

// The programs in testdata do with a session what users do with it, each in its own language. They hold the
// local Snowflake to being one for their drivers.
func TestSessions(t *testing.T) {
	for _, s := range []struct {
		name, directory, program string
		command                  []string
		says                     string
	}{
		// Python puts values into the text by itself, unless it is told otherwise.
		{"Python", "python", "session.py", []string{"venv/bin/python"},
			"bound here|42|it's|NULL|true\n" + rows + session + "bound there|42|it's|NULL|true\n"},
		{"Node", "node", "session.mjs", []string{"node"},
			"bound there|42|it's|NULL|true\n" + rows + session},
		{"Java", "java", "Session.java", []string{"java", "-cp", "target/lib/*"},
			"bound there|42|it's|NULL|true\n" + rows + session},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.snowflake.SetInProgressAfter(50 * time.Millisecond) // the wait has to be polled for
			f.snowflake.SetSessionValidity(2*time.Second, time.Hour)
			command := slices.Concat(s.command, []string{copyTo(t, installed(t, s.directory), s.program)})
			p := f.start(installed(t, s.directory), f.environ(), command[0], command[1:]...)
			if printed := p.Wait(); said(printed) != s.says {
				t.Errorf("it printed\n%swant\n%s", said(printed), s.says)
			}
			if f.snowflake.Counters().Renewals == 0 {
				t.Error("the session was not renewed")
			}
			if open := f.snowflake.Sessions(); len(open) > 0 {
				t.Errorf("sessions left open: %+v", open)
			}
			for _, text := range []string{"COMMIT", "ROLLBACK"} {
				if !slices.ContainsFunc(f.snowflake.Statements(), func(s localsnowflake.Statement) bool {
					return strings.EqualFold(s.Text, text)
				}) {
					t.Errorf("no %s was sent", text)
				}
			}
		})
	}
}

// said is what the program printed, without the warnings of its driver.
func said(printed string) string {
	var lines strings.Builder
	for line := range strings.Lines(printed) {
		if name, _, _ := strings.Cut(line, "|"); name != line {
			lines.WriteString(line)
		}
	}
	return lines.String()
}

// copyTo puts a program of testdata where its packages are: Node looks for them beside the program.
func copyTo(t *testing.T, directory, program string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", program))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.CreateTemp(directory, program) // another test may be reading the copy that is there
	if err != nil {
		t.Fatal(err)
	}
	if _, err := whole.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(whole.Close(), os.Rename(whole.Name(), filepath.Join(directory, program))); err != nil {
		t.Fatal(err)
	}
	return program
}
