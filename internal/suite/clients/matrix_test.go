//go:build clients

package clients

import (
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/process/processtest"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/shared/keyfile"
)

var (
	which = flag.String("rows", "quick", "the rows of the matrix that are run: quick, slow or all")
	write = flag.Bool("write", false, "write the matrix into docs/clients.md; needs -rows all")
)

// A row is one way in which one version of a client connects. It connects before a rotation and after it.
//
// A program that goes on reads numbers, one in a line, until its input ends. For each it opens so many connections at the
// same time, or takes them from its pool, runs aboutSession in each, prints a line for each, and gives them back.
type row struct {
	client    string
	pin       string // the client's package, which has the client's version in the pins of the directory
	by        by
	how       string         // what its user writes
	directory string         // in .cache/clients
	program   string         // in testdata; "" if the command needs none
	command   []string       // without the program, and run in the directory
	environ   []string       // what its user sets besides
	oneShot   bool           // it ends once it has connected
	says      string         // what a oneShot prints once it has connected; "" for the line about its session
	socket    keyfile.Format // the format that fromSocket reads
	keepsKey  bool           // what its user writes reads the key once: after a rotation, new connections are refused
	tables    bool           // it needs a Snowflake that has tables
	https     bool           // it connects by nothing else
	needs     string         // a command that install.sh installs it with; without that, it says that it leaves the client out
	all       bool           // it is slow: only make test-clients-all runs it. All rows of a version are slow, or none
}

// by says how a client finds the key.
type by int

const (
	byName     by = iota // nothing but SNOWFLAKE_HOME is set
	byPath               // SNOWFLAKE_PRIVATE_KEY_PATH has the path of the PEM, and SNOWFLAKE_ACCOUNT and so on are set
	fromSocket           // the same, with the path of a socket
)

func (b by) String() string { return [...]string{"by name", "by path", "from a socket"}[b] }

const (
	aboutSession = "SELECT current_version(), current_role(), current_warehouse(), current_database(), current_schema()"
	sessionLine  = version + ",LOADER,WH,DB,S"
)

// An outcome is what was seen of a row that passed.
type outcome struct {
	row
	version  string
	rotation string // what happened in the rotation
}

var matrix = slices.Concat(pythonRows, nodeRows, javaRows, rustRows)

func TestMatrix(t *testing.T) {
	if !slices.Contains([]string{"quick", "slow", "all"}, *which) {
		t.Fatalf("-rows %s: it is quick, slow or all", *which)
	}
	var mu sync.Mutex
	passed := map[int]outcome{}
	t.Run("rows", func(t *testing.T) { // which waits for all of them
		for i, r := range matrix {
			if !r.wanted() {
				continue
			}
			version := r.version(t)
			t.Run(fmt.Sprintf("%s %s/%s %d", r.client, version, r.by, i), func(t *testing.T) {
				t.Parallel()
				if _, err := exec.LookPath(r.needs); r.needs != "" && err != nil {
					t.Skip(err)
				}
				rotation := r.rotate(t)
				if !t.Failed() {
					mu.Lock()
					defer mu.Unlock()
					passed[i] = outcome{r, version, rotation}
				}
			})
		}
	})
	var outcomes []outcome
	for i := range matrix {
		if o, ok := passed[i]; ok {
			outcomes = append(outcomes, o)
		}
	}
	if !t.Failed() {
		checkMatrix(t, outcomes)
	}
}

func (r row) wanted() bool {
	switch *which {
	case "all":
		return true
	case "slow":
		return r.all
	}
	return !r.all
}

// rotate lets the row connect, before and after a rotation that leaves no old key in Snowflake, and says what its connections
// did.
func (r row) rotate(t *testing.T) (rotation string) {
	var options []localsnowflake.Option
	if r.tables {
		options = append(options, withTables(t))
	}
	var serve func(*fixture, http.Handler) *url.URL
	if r.https {
		serve = func(f *fixture, handler http.Handler) *url.URL {
			server := httptest.NewTLSServer(handler)
			f.t.Cleanup(server.Close)
			at, err := url.Parse(server.URL)
			if err != nil {
				f.t.Fatal(err)
			}
			certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
			if err := os.WriteFile(filepath.Join(f.home, authorityName), certificate, 0o600); err != nil {
				f.t.Fatal(err)
			}
			return at
		}
	}
	f := newFixtureServing(t, serve, options...)
	c := newConnector(t, f, r)
	c.connect(1)
	if n := f.snowflake.LoginCount(fingerprint(1), 0); n == 0 {
		t.Error("no login with the first key")
	}
	before := f.answersOn(1)
	f.rotateTo(2)
	c.connect(2)
	if r.keepsKey {
		if n := f.snowflake.LoginCount(fingerprint(1), localsnowflake.JWTFingerprintMismatch); n == 0 {
			t.Error("no login with the first key after the rotation: it does not keep the key any more")
		}
		if n := f.snowflake.LoginCount(fingerprint(2), 0); n > 0 {
			t.Errorf("%d logins with the second key: it does not keep the first one", n)
		}
		f.keptTheSecret(c.running.String())
		return "new connections of " + r.how + " keep the old key, and are refused"
	}
	c.end()
	logins, served := f.snowflake.LoginCount(fingerprint(2), 0), f.answersOn(1) > before
	if logins == 0 {
		t.Error("no login with the second key")
	}
	if n := f.snowflake.Counters().LoginsRefused; n > 0 {
		t.Errorf("%d logins refused", n)
	}
	for _, s := range f.snowflake.Statements() {
		tried := r.tables && s.Code == localsnowflake.ObjectNotFound // a tool may try whether a table is there
		if s.Code != 0 && !tried {
			t.Errorf("failed with %v: %s", s.Code, s.Text)
		}
	}
	switch {
	case r.oneShot:
		return "each run takes the newest key"
	case served:
		return "open connections serve on; each new one takes the newest key"
	}
	return "each new connection takes the newest key"
}

// A connector is the program of a row.
type connector struct {
	f       *fixture
	row     row
	program []string
	running *processtest.Process // unless it is a oneShot
	input   io.WriteCloser
}

func newConnector(t *testing.T, f *fixture, r row) *connector {
	t.Helper()
	c := &connector{f: f, row: r, program: slices.Clone(r.command)}
	if r.program != "" {
		c.program = append(c.program, copyTo(t, installed(t, r.directory), r.program))
	}
	if r.oneShot {
		return c
	}
	cmd := c.command()
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.input = input
	c.running = processtest.Start(t, cmd)
	return c
}

func (c *connector) command() *exec.Cmd {
	c.f.t.Helper()
	environ := append(slices.Clone(offline), "SNOWFLAKE_HOME="+c.f.dir)
	switch c.row.by {
	case byPath:
		environ = c.f.byPath()
	case fromSocket:
		environ = append(c.f.byPath(), "SNOWFLAKE_PRIVATE_KEY_PATH="+filepath.Join(c.f.dir, c.row.socket.SocketName()))
	}
	environ = append(environ, c.row.environ...)
	if c.row.https {
		environ = append(environ, "REQUESTS_CA_BUNDLE="+filepath.Join(c.f.home, authorityName)) // for Python
	}
	return c.f.command(installed(c.f.t, c.row.directory), environ, c.program[0], c.program[1:]...)
}

// connect has the program open n connections; a oneShot is run once.
func (c *connector) connect(n int) {
	c.f.t.Helper()
	if c.row.oneShot {
		printed := processtest.Start(c.f.t, c.command()).Wait()
		c.f.keptTheSecret(printed)
		if said := c.row.says; said == "" && countSessions(printed) == 0 || !strings.Contains(printed, said) {
			c.f.t.Errorf("it printed %q", printed)
		}
		return
	}
	want := countSessions(c.running.String()) + n
	if _, err := fmt.Fprintln(c.input, n); err != nil {
		c.f.t.Fatal(err)
	}
	testenv.Eventually(c.f.t, "the program has connected", func() bool { return c.running.Ended() || countSessions(c.running.String()) >= want })
}

func countSessions(printed string) int {
	return strings.Count(strings.ReplaceAll(printed, "\r", ""), sessionLine+"\n")
}

// end closes the input of a program that goes on, and checks what it printed.
func (c *connector) end() {
	c.f.t.Helper()
	if c.row.oneShot {
		return
	}
	c.input.Close()
	printed := c.running.Wait()
	c.f.keptTheSecret(printed)
	if n := countSessions(printed); n != 3 {
		c.f.t.Errorf("it printed %q, want its session 3 times", printed)
	}
}

// pins has how a version is written in the pins of each package manager. %s is the package.
var pins = map[string]string{
	"requirements.txt":  `(?m)^%s==(\S+)$`,
	"package-lock.json": `"node_modules/%s": \{\s*"version": "([^"]+)"`,
	"pom.xml":           `<artifactId>%s</artifactId>\s*<version>([^<$]+)</version>`,
	"Cargo.lock":        `name = "%s"\nversion = "([^"]+)"`,
}

// version is what the pins of the row's directory say.
func (r row) version(t *testing.T) string {
	t.Helper()
	for _, directories := range []string{"../../../examples/clients", "testdata/installed"} {
		for file, pattern := range pins {
			text, err := os.ReadFile(filepath.Join(directories, r.directory, file))
			if err != nil {
				continue
			}
			if found := regexp.MustCompile(fmt.Sprintf(pattern, regexp.QuoteMeta(r.pin))).FindSubmatch(text); found != nil {
				return string(found[1])
			}
		}
	}
	t.Fatalf("%s is not pinned in the directory %s", r.pin, r.directory)
	return ""
}
