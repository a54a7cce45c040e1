package rotate

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

// A call is one request of a process.
type call struct {
	n    int
	what string // SSM's action, or SQL's statement
	ssm  bool
}

func (c call) changes() bool {
	return strings.HasPrefix(c.what, "PutParameter") || strings.HasPrefix(c.what, "DeleteParameter") || strings.HasPrefix(c.what, "ALTER")
}

// A fate is what becomes of a call.
type fate int

const (
	answered    fate = iota
	killed           // the process dies before anything has happened
	killedAfter      // the process dies when all has happened
	lost             // nothing happens, and there is no answer
	lostAfter        // it happens, and there is no answer
	late             // it happens later, and there is no answer
	killedLate       // it happens later, and the process dies now
)

// A process is one run of the command, with a network of its own.
type process struct {
	*fixture
	Options
	fate  func(call) fate
	fail  func(call) (status int, body string) // an answer in place of the real one, if status is not 0
	after func(call)                           // when a call has taken effect

	staleAfter, staleReads int // of the key's parameter, once there is a new version: so many right, then so many old ones
	fresh                  map[string][]byte
	published              bool

	ctx   context.Context
	kill  context.CancelFunc
	dead  atomic.Bool
	mu    sync.Mutex
	calls []call
	lines []string
}

// once is a process whose SDK does not try again what failed.
func (f *fixture) once() *process { return f.start("1") }

func (f *fixture) process() *process { return f.start("3") }

// settings are for one process at a time: the SDK takes its own from the environment.
var settings sync.Mutex

func (f *fixture) start(attempts string) *process {
	f.t.Helper()
	p := &process{fixture: f, fresh: map[string][]byte{}}
	p.ctx, p.kill = context.WithCancel(f.t.Context())
	f.t.Cleanup(p.kill)
	store := httptest.NewServer(p.gate(f.ssm, true))
	account := httptest.NewServer(p.gate(f.snowflake, false))
	f.t.Cleanup(store.Close)
	f.t.Cleanup(account.Close)
	settings.Lock()
	defer settings.Unlock()
	os.Setenv("AWS_ENDPOINT_URL_SSM", store.URL)
	os.Setenv("AWS_MAX_ATTEMPTS", attempts)
	at, err := url.Parse(account.URL)
	if err != nil {
		f.t.Fatal(err)
	}
	port, _ := strconv.Atoi(at.Port())
	key, err := ssm.NewKey(ssm.Parameters{Key: keyParameter, Passphrase: passParameter})
	if err != nil {
		f.t.Fatal(err)
	}
	from, err := ssm.NewReader(p.ctx, ssm.Options{}, key)
	if err != nil {
		f.t.Fatal(err)
	}
	to, err := ssm.OpenStore(p.ctx, ssm.Options{}, keyParameter)
	if err != nil {
		f.t.Fatal(err)
	}
	p.Options = Options{
		Parameter: keyParameter, Fetch: func(ctx context.Context) (*ssm.Material, error) {
			fetched := from.Fetch(ctx, []ssm.Wanted{{Key: key}})[0]
			return fetched.Material, fetched.Err
		}, Store: to,
		Snowflake: &snowflake.Client{Account: "local", Login: "svc", Protocol: "http", Host: at.Hostname(), Port: port, UserAgent: "test", RetryInterval: time.Millisecond},
		Goal:      Goal{Grace: -time.Minute}, // over, whatever the Date header is rounded to
		RetryFor:  -1,
		Say: func(line string) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.lines = append(p.lines, line)
		},
		timing:  timing{section: 20 * time.Second, lease: 100 * time.Millisecond, poll: 10 * time.Millisecond, settle: time.Millisecond, retry: time.Millisecond},
		newPair: f.newPair,
	}
	return p
}

// gate is the network between a process and what it calls.
func (p *process) gate(h http.Handler, isSSM bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.dead.Load() {
			panic(http.ErrAbortHandler)
		}
		c, body := p.identify(r, isSSM)
		fate := answered
		if p.fate != nil {
			fate = p.fate(c)
		}
		if fate == killed || fate == lost {
			p.end(fate)
		}
		if p.fail != nil {
			if status, text := p.fail(c); status != 0 {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(status)
				_, _ = w.Write([]byte(text))
				return
			}
		}
		r.Body = body
		if fate == late || fate == killedLate {
			p.keepBack(h, r)
			p.end(fate)
		}
		out := httptest.NewRecorder()
		h.ServeHTTP(out, r)
		p.makeStale(c, r, out)
		p.check(fmt.Sprintf("call %d, %s", c.n, c.what))
		if p.after != nil {
			p.after(c)
		}
		if fate == killedAfter || fate == lostAfter {
			p.end(fate)
		}
		for name, values := range out.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(out.Code)
		_, _ = w.Write(out.Body.Bytes())
	})
}

func (p *process) end(f fate) {
	if f == killed || f == killedAfter || f == killedLate {
		p.dead.Store(true)
		p.kill()
	}
	panic(http.ErrAbortHandler)
}

func (p *process) run() (Result, error) { return Run(p.ctx, p.Options) }

// must runs a process that has to come to its end.
func (p *process) must(what string, want ...Outcome) Result {
	p.t.Helper()
	result, err := p.run()
	if err != nil || len(want) > 0 && !slices.Contains(want, result.Outcome) {
		p.t.Fatalf("%s: %s, error %v\n%s", what, result.Outcome, err, p.story())
	}
	return result
}

func (p *process) story() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return "  " + strings.Join(p.lines, "\n  ")
}

// makeStale has Parameter Store give what it gave before the last write, for a while.
func (p *process) makeStale(c call, r *http.Request, out *httptest.ResponseRecorder) {
	if p.staleReads == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch c.what {
	case "PutParameter " + keyParameter:
		p.published = true
	case "GetParameters", "GetParameterHistory " + keyParameter:
		kind := c.what + r.Header.Get("Content-Length") + fmt.Sprint(r.ContentLength)
		if !p.published {
			p.fresh[kind] = out.Body.Bytes()
			return
		}
		if p.staleAfter > 0 {
			p.staleAfter--
			return
		}
		if old := p.fresh[kind]; old != nil {
			p.staleReads--
			out.Body = bytes.NewBuffer(old)
			out.Header().Set("Content-Length", strconv.Itoa(len(old)))
		}
	}
}

// whileItWaits does something once, as soon as the run waits for the tasks.
func (p *process) whileItWaits(do func()) {
	say, done := p.Say, false
	p.Say = func(line string) {
		say(line)
		if strings.HasPrefix(line, "waiting until") && !done {
			done = true
			do()
		}
	}
}
