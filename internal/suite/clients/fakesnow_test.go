//go:build clients

package clients

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/snowkey/snowkey/internal/tools/testenv"
)

// The official connector reads each key that the sidecar publishes, as examples/clients/python uses it, connected to a
// server that is not ours. fakesnow accepts each login, so that only the client can say which key it used. The connector
// is the one that fakesnow brings, a version 4: version 5 needs the master token in the answer to a login. Snowflake
// sends it, and so does the local one, with which TestFollowers_LoseNoQueryInARotation runs version 5.
func TestFakesnow_PythonReadsEachKey(t *testing.T) {
	endpoint := os.Getenv("FAKESNOW_ENDPOINT")
	if endpoint == "" {
		t.Skip("fakesnow does not run: make test-fakesnow runs this")
	}
	at, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	python, err := filepath.Abs("../../../.cache/fakesnow-venv/bin/python")
	if err != nil {
		t.Fatal(err)
	}
	example, err := filepath.Abs("../../../examples/clients/python/follow.py")
	if err != nil {
		t.Fatal(err)
	}
	f := newFixtureServing(t, func(*fixture, http.Handler) *url.URL { return at })
	p := f.start(f.home, f.environ(), python, example)
	for n := 1; n <= 3; n++ {
		if n > 1 {
			f.rotate(n)
			f.published(n)
		}
		testenv.Eventually(f.t, "it is answered on the key", func() bool {
			return p.Ended() || strings.Contains(p.String(), " on "+fingerprint(n))
		})
	}
	p.End(syscall.SIGTERM)
	var keys []string
	for line := range strings.Lines(p.String()) {
		if said := answer.FindStringSubmatch(strings.TrimSpace(line)); said != nil {
			keys = append(keys, said[2])
		}
	}
	if want := []string{fingerprint(1), fingerprint(2), fingerprint(3)}; !slices.Equal(slices.Compact(keys), want) {
		t.Errorf("it was answered on %q, want %q", slices.Compact(keys), want)
	}
	for text, want := range map[string]int{"logged in with ": 3, "no answer": 0, "staying on the old key": 0} {
		if n := strings.Count(p.String(), text); n != want {
			t.Errorf("%q was printed %d times, want %d", text, n, want)
		}
	}
	f.keptTheSecret(p.String())
}
