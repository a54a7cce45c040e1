//go:build clients

package clients

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testkey"
)

var followers = []struct {
	name, folder string
	command      []string
	namesKey     bool // with each answer
	tidy         bool // closes its session when it is told to end
}{
	{"Python", "python", []string{"venv/bin/python", "follow.py"}, true, true},
	{"SQLAlchemy", "python", []string{"venv/bin/python", "sqlalchemy_follow.py"}, false, true},
	{"Node", "node", []string{"node", "follow.mjs"}, true, true},
	{"Java", "java", []string{"java", "@options", "Follow.java"}, true, false},
}

func TestFollowersLoseNoQueryInARotation(t *testing.T) {
	for _, f := range followers {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.start(installed(t, f.folder), w.environ(), f.command[0], f.command[1:]...)
			w.moreAnswersOn(1)

			w.rotate(2) // before its public key is assigned
			w.eventually("it tries the new key", func() bool {
				return w.snowflake.LoginCount(fingerprint(2), localsnowflake.JWTFingerprintMismatch) > 0
			})
			w.moreAnswersOn(1)
			w.assign(2, 2)
			w.moreAnswersOn(2)
			w.leaves(1)

			w.assign(1, 3) // as it should be: first here, then in Parameter Store
			w.rotate(3)
			w.moreAnswersOn(3)
			w.leaves(2)
			w.snowflake.UnsetPublicKey(user, 2)
			w.moreAnswersOn(3)

			w.terminate(p)
			if open := w.snowflake.Sessions(); len(open) > 0 {
				t.Errorf("sessions left open: %+v", open)
			}
			w.nothingFailed()
			w.madeBeforeBreak(1, 2)
			w.madeBeforeBreak(2, 3)
			w.saidWhatHappened(p.printed(), f.namesKey)
			w.keptTheSecret(p.printed())
		})
	}
}

func TestFollowersLogInAgainWhenTheirSessionIsGone(t *testing.T) {
	for _, f := range followers {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.start(installed(t, f.folder), w.environ(), f.command[0], f.command[1:]...)
			w.moreAnswersOn(1)
			w.snowflake.EndSessions(localsnowflake.SessionGone)
			w.moreAnswersOn(1)
			w.terminate(p)
			if n := strings.Count(p.printed(), "no answer: "); n > 1 {
				t.Errorf("%d queries failed", n)
			}
			w.keptTheSecret(p.printed())
		})
	}
}

func TestFollowersWaitForTheFirstKey(t *testing.T) {
	for _, f := range followers {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.snowflake.UnsetPublicKey(user, 1)
			w.start(installed(t, f.folder), w.environ(), f.command[0], f.command[1:]...)
			w.eventually("it is refused", func() bool { return w.snowflake.Counters().LoginsRefused > 0 })
			w.assign(1, 1)
			w.moreAnswersOn(1)
		})
	}
}

func TestFollowersTakeTheSettingsOfTheirSession(t *testing.T) {
	for _, f := range followers {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			environ := append(w.environ(), "SNOWFLAKE_ROLE=LOADER", "SNOWFLAKE_WAREHOUSE=WH", "SNOWFLAKE_DATABASE=DB", "SNOWFLAKE_SCHEMA=S")
			w.start(installed(t, f.folder), environ, f.command[0], f.command[1:]...)
			w.moreAnswersOn(1)
			for _, s := range w.snowflake.Sessions() {
				if s.User != user || s.Role != "LOADER" || s.Warehouse != "WH" || s.Database != "DB" || s.Schema != "S" {
					t.Errorf("a session has %+v", s)
				}
			}
		})
	}
}

func fingerprint(n int) string { return testkey.Key(n).Fingerprint() }

// answersOn counts the queries that succeeded in sessions of the nth key.
func (w *world) answersOn(n int) (count int) {
	for _, s := range w.snowflake.Statements() {
		if isQuery(s) && s.Fingerprint == fingerprint(n) && s.Executions == 1 && s.Code == 0 {
			count++
		}
	}
	return count
}

func isQuery(s localsnowflake.Statement) bool {
	return strings.HasPrefix(s.Text, "SELECT current_version()")
}

// moreAnswersOn waits until some more queries have been answered in sessions of the nth key.
func (w *world) moreAnswersOn(n int) {
	w.t.Helper()
	before := w.answersOn(n)
	w.eventually("queries are answered on the key", func() bool { return w.answersOn(n) >= before+5 })
}

// leaves waits until no session of the nth key is open any more.
func (w *world) leaves(n int) {
	w.t.Helper()
	w.eventually("the sessions of the old key are closed", func() bool {
		return !slices.ContainsFunc(w.snowflake.Sessions(), func(s localsnowflake.Session) bool {
			return s.Fingerprint == fingerprint(n)
		})
	})
}

func (w *world) nothingFailed() {
	w.t.Helper()
	for _, s := range w.snowflake.Statements() {
		if s.Code != 0 {
			w.t.Errorf("failed with %v: %s", s.Code, s.Text)
		}
	}
}

// madeBeforeBreak fails if a session of the older key was closed before one of the newer was open.
func (w *world) madeBeforeBreak(older, newer int) {
	w.t.Helper()
	logins := w.snowflake.Logins()
	made := slices.IndexFunc(logins, func(l localsnowflake.Login) bool {
		return l.Code == 0 && l.Fingerprint == fingerprint(newer)
	})
	if made < 0 {
		w.t.Fatalf("nobody logged in with key %d", newer)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range logins {
		// A connection that only tried the key out does not count.
		if at, closed := w.closed[l.SessionID]; closed && l.Fingerprint == fingerprint(older) && w.used(l.SessionID) && at.Before(logins[made].Time) {
			w.t.Errorf("key %d's session was closed %v before key %d had logged in", older, logins[made].Time.Sub(at), newer)
		}
	}
}

// used tells whether a query was answered in the session.
func (w *world) used(sessionID int64) bool {
	return slices.ContainsFunc(w.snowflake.Statements(), func(s localsnowflake.Statement) bool {
		return isQuery(s) && s.SessionID == sessionID
	})
}

var answer = regexp.MustCompile(`^Snowflake (\S+)(?: on (\S+))?$`)

// saidWhatHappened compares what the program printed with what Snowflake saw.
func (w *world) saidWhatHappened(printed string, namesKey bool) {
	w.t.Helper()
	var answers int
	var keys []string
	for line := range strings.Lines(printed) {
		said := answer.FindStringSubmatch(strings.TrimSpace(line))
		if said == nil {
			continue
		}
		answers++
		if said[1] != version {
			w.t.Errorf("a wrong answer: %s", line)
		}
		keys = append(keys, said[2])
	}
	// The last answer may have come too late to be printed.
	if sent := w.answersOn(1) + w.answersOn(2) + w.answersOn(3); answers < sent-1 || answers > sent {
		w.t.Errorf("%d answers printed, %d sent", answers, sent)
	}
	if want := []string{fingerprint(1), fingerprint(2), fingerprint(3)}; namesKey && !slices.Equal(slices.Compact(keys), want) {
		w.t.Errorf("keys printed: %v", slices.Compact(keys))
	}
	for text, want := range map[string]int{"logged in with ": 3, "no answer": 0} {
		if n := strings.Count(printed, text); n != want {
			w.t.Errorf("%q was printed %d times, want %d", text, n, want)
		}
	}
	if !strings.Contains(printed, "staying on the old key") {
		w.t.Error("it does not say that the key was refused")
	}
}

// keptTheSecret fails if anything of a private key was printed.
func (w *world) keptTheSecret(printed string) {
	w.t.Helper()
	for n := 1; n <= 3; n++ {
		for _, line := range privateLines(w.t, n) {
			if strings.Contains(printed, line) {
				w.t.Fatal("a part of a private key was printed")
			}
		}
	}
	if strings.Contains(printed, "PRIVATE KEY") || strings.Contains(printed, passphrase) {
		w.t.Error("something of a private key was printed")
	}
}
