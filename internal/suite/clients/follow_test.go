//go:build clients

package clients

import (
	"crypto/x509"
	"encoding/pem"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
)

var followers = []struct {
	name, directory string
	command         []string
	namesKey        bool // with each answer
	tidy            bool // closes its session when it is told to end
}{
	{"Python", "python", []string{"venv/bin/python", "follow.py"}, true, true},
	{"SQLAlchemy", "python", []string{"venv/bin/python", "sqlalchemy_follow.py"}, false, true},
	{"Node", "node", []string{"node", "follow.mjs"}, true, true},
	{"Java", "java", []string{"java", "@options", "Follow.java"}, true, false},
}

func TestFollowers_LoseNoQueryInARotation(t *testing.T) {
	for _, c := range followers {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			p := f.start(installed(t, c.directory), f.environ(), c.command[0], c.command[1:]...)
			f.moreAnswersOn(1)

			f.rotate(2) // before its public key is assigned
			testenv.Eventually(f.t, "it tries the new key", func() bool {
				return f.snowflake.LoginCount(fingerprint(2), localsnowflake.JWTFingerprintMismatch) > 0
			})
			f.moreAnswersOn(1)
			f.assign(2, 2)
			f.moreAnswersOn(2)
			f.leaves(1)

			f.assign(1, 3) // the right order: first here, then in Parameter Store
			f.rotate(3)
			f.moreAnswersOn(3)
			f.leaves(2)
			f.snowflake.UnsetPublicKey(user, 2)
			f.moreAnswersOn(3)

			p.End(syscall.SIGTERM)
			if open := f.snowflake.Sessions(); len(open) > 0 {
				t.Errorf("sessions left open: %+v", open)
			}
			for _, s := range f.snowflake.Statements() {
				if s.Code != 0 {
					f.t.Errorf("failed with %v: %s", s.Code, s.Text)
				}
			}
			f.madeBeforeBreak(1, 2)
			f.madeBeforeBreak(2, 3)
			f.saidWhatHappened(p.String(), c.namesKey)
			f.keptTheSecret(p.String())
		})
	}
}

func TestFollowers_LogInAgainWhenTheirSessionIsGone(t *testing.T) {
	for _, c := range followers {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			p := f.start(installed(t, c.directory), f.environ(), c.command[0], c.command[1:]...)
			f.moreAnswersOn(1)
			f.snowflake.EndSessions(localsnowflake.SessionGone)
			f.moreAnswersOn(1)
			p.End(syscall.SIGTERM)
			if n := strings.Count(p.String(), "no answer: "); n > 1 {
				t.Errorf("%d queries failed", n)
			}
			f.keptTheSecret(p.String())
		})
	}
}

func TestFollowers_WaitForTheFirstKey(t *testing.T) {
	for _, c := range followers {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.snowflake.UnsetPublicKey(user, 1)
			f.start(installed(t, c.directory), f.environ(), c.command[0], c.command[1:]...)
			testenv.Eventually(f.t, "it is refused", func() bool { return f.snowflake.Counters().LoginsRefused > 0 })
			f.assign(1, 1)
			f.moreAnswersOn(1)
		})
	}
}

func TestFollowers_TakeTheSettingsOfTheirSession(t *testing.T) {
	for _, c := range followers {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			environ := append(f.environ(), "SNOWFLAKE_ROLE=LOADER", "SNOWFLAKE_WAREHOUSE=WH", "SNOWFLAKE_DATABASE=DB", "SNOWFLAKE_SCHEMA=S")
			f.start(installed(t, c.directory), environ, c.command[0], c.command[1:]...)
			f.moreAnswersOn(1)
			for _, s := range f.snowflake.Sessions() {
				if s.User != user || s.Role != "LOADER" || s.Warehouse != "WH" || s.Database != "DB" || s.Schema != "S" {
					t.Errorf("a session has %+v", s)
				}
			}
		})
	}
}

func fingerprint(n int) string { return testkey.Key(n).Fingerprint() }

// answersOn counts the queries that succeeded in sessions of the nth key.
func (f *fixture) answersOn(n int) (count int) {
	for _, s := range f.snowflake.Statements() {
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
func (f *fixture) moreAnswersOn(n int) {
	f.t.Helper()
	before := f.answersOn(n)
	testenv.Eventually(f.t, "queries are answered on the key", func() bool { return f.answersOn(n) >= before+5 })
}

// leaves waits until no session of the nth key is open any more.
func (f *fixture) leaves(n int) {
	f.t.Helper()
	testenv.Eventually(f.t, "the sessions of the old key are closed", func() bool {
		return !slices.ContainsFunc(f.snowflake.Sessions(), func(s localsnowflake.Session) bool {
			return s.Fingerprint == fingerprint(n)
		})
	})
}

// madeBeforeBreak fails if a session of the older key was closed before one of the newer was open.
func (f *fixture) madeBeforeBreak(older, newer int) {
	f.t.Helper()
	logins := f.snowflake.Logins()
	made := slices.IndexFunc(logins, func(l localsnowflake.Login) bool {
		return l.Code == 0 && l.Fingerprint == fingerprint(newer)
	})
	if made < 0 {
		f.t.Fatalf("nobody logged in with key %d", newer)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range logins {
		// A connection that only tried the key out does not count.
		if at, closed := f.closed[l.SessionID]; closed && l.Fingerprint == fingerprint(older) && f.used(l.SessionID) && at.Before(logins[made].Time) {
			f.t.Errorf("key %d's session was closed %v before key %d had logged in", older, logins[made].Time.Sub(at), newer)
		}
	}
}

// used tells whether a query was answered in the session.
func (f *fixture) used(sessionID int64) bool {
	return slices.ContainsFunc(f.snowflake.Statements(), func(s localsnowflake.Statement) bool {
		return isQuery(s) && s.SessionID == sessionID
	})
}

var answer = regexp.MustCompile(`^Snowflake (\S+)(?: on (\S+))?$`)

// saidWhatHappened compares what the program printed with what Snowflake saw.
func (f *fixture) saidWhatHappened(printed string, namesKey bool) {
	f.t.Helper()
	var answers int
	var keys []string
	for line := range strings.Lines(printed) {
		said := answer.FindStringSubmatch(strings.TrimSpace(line))
		if said == nil {
			continue
		}
		answers++
		if said[1] != version {
			f.t.Errorf("a wrong answer: %s", line)
		}
		keys = append(keys, said[2])
	}
	// The last answer may have come too late to be printed.
	if sent := f.answersOn(1) + f.answersOn(2) + f.answersOn(3); answers < sent-1 || answers > sent {
		f.t.Errorf("%d answers printed, %d sent", answers, sent)
	}
	if want := []string{fingerprint(1), fingerprint(2), fingerprint(3)}; namesKey && !slices.Equal(slices.Compact(keys), want) {
		f.t.Errorf("keys printed: %v", slices.Compact(keys))
	}
	for text, want := range map[string]int{"logged in with ": 3, "no answer": 0} {
		if n := strings.Count(printed, text); n != want {
			f.t.Errorf("%q was printed %d times, want %d", text, n, want)
		}
	}
	if !strings.Contains(printed, "staying on the old key") {
		f.t.Error("it does not say that the key was refused")
	}
}

// keptTheSecret fails if anything of a private key was printed.
func (f *fixture) keptTheSecret(printed string) {
	f.t.Helper()
	for n := 1; n <= 3; n++ {
		der, err := x509.MarshalPKCS8PrivateKey(testkey.Key(n).RSA())
		if err != nil {
			f.t.Fatal(err)
		}
		body := strings.Split(strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))), "\n")
		for _, line := range body[2 : len(body)-1] {
			if strings.Contains(printed, line) {
				f.t.Fatal("a part of a private key was printed")
			}
		}
	}
	if strings.Contains(printed, "PRIVATE KEY") || strings.Contains(printed, passphrase) {
		f.t.Error("something of a private key was printed")
	}
}
