package localsnowflake

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// engineUser logs in to the engine for every client, whose own user, key and tokens never reach it.
	engineUser = "SNOWKEY"

	maxEngineSessions = 256
	maxEngineAnswer   = 64 << 20
	maxEngineMessage  = 2 << 10

	// engineCallTimeout is for everything but statements.
	engineCallTimeout = 10 * time.Second
)

// WithEngine hands the statements that the account does not answer itself to a SQL engine: a server that speaks the
// drivers' protocol and checks no login, such as fakesnow. A statement may take as long as the timeout says. The
// Server has to be closed.
func WithEngine(base *url.URL, timeout time.Duration) Option {
	return func(s *Server) { s.engine = newEngine(base, timeout) }
}

// Close ends statements and uploads in the SQL engine, and waits for them. Without an engine there is nothing to close.
func (s *Server) Close() {
	if s.engine != nil {
		s.engine.close()
	}
}

// engine is the SQL engine, and what runs in it.
type engine struct {
	base    *url.URL
	timeout time.Duration
	client  *http.Client
	secret  []byte        // signs the URLs of uploads
	slots   chan struct{} // one is taken by each session of the engine

	ctx  context.Context
	stop context.CancelFunc

	mu      sync.Mutex // orders enter and close
	running sync.WaitGroup
}

func newEngine(base *url.URL, timeout time.Duration) *engine {
	ctx, stop := context.WithCancel(context.Background())
	return &engine{
		base:    base,
		timeout: timeout,
		client: &http.Client{
			Transport: &http.Transport{ // without a proxy: the engine is near
				DialContext:     (&net.Dialer{Timeout: engineCallTimeout}).DialContext,
				MaxConnsPerHost: maxEngineSessions,
				// uvicorn, under fakesnow, closes a connection after an error, and after five seconds, without saying so.
				DisableKeepAlives: true,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		secret: []byte(rand.Text()),
		slots:  make(chan struct{}, maxEngineSessions),
		ctx:    ctx,
		stop:   stop,
	}
}

// start runs f in a goroutine that close waits for. It returns false once the engine is closed.
func (e *engine) start(f func()) bool {
	if !e.enter() {
		return false
	}
	go func() {
		defer e.running.Done()
		f()
	}()
	return true
}

// enter has close wait until running.Done is called. It returns false once the engine is closed.
func (e *engine) enter() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx.Err() != nil {
		return false
	}
	e.running.Add(1)
	return true
}

func (e *engine) close() {
	e.mu.Lock()
	e.stop()
	e.mu.Unlock()
	e.running.Wait()
}

// engineAnswer is the engine's answer to a request, whatever its HTTP status.
type engineAnswer struct {
	Data    json.RawMessage `json:"data"`
	Code    string          `json:"code"`
	Message string          `json:"message"`
	Success bool            `json:"success"`

	status int
}

// sessionLost tells that the engine does not know the session, as after a restart.
func (a engineAnswer) sessionLost() bool { return a.status == http.StatusUnauthorized }

func (a engineAnswer) failure() *failure {
	if a.Success {
		return nil
	}
	var data struct {
		SQLState string `json:"sqlState"`
	}
	_ = json.Unmarshal(a.Data, &data) // an answer without data has no state
	code, _ := strconv.Atoi(a.Code)
	if code == 0 || a.status != http.StatusOK {
		return engineFailure("the SQL engine cannot execute this statement: %s", a.text())
	}
	return &failure{code: Code(code), sqlState: cmp.Or(data.SQLState, "42000"), message: a.text()}
}

func (a engineAnswer) text() string {
	text := cmp.Or(a.Message, fmt.Sprintf("it answers with HTTP status %d", a.status))
	return strings.ToValidUTF8(text[:min(len(text), maxEngineMessage)], "")
}

// engineFailure is a statement's failure, with HTTP status 200: drivers retry on 5xx, for minutes.
func engineFailure(format string, args ...any) *failure {
	return &failure{code: ExecutionFailed, sqlState: "XX000",
		message: "SQL execution internal error:\n" + fmt.Sprintf(format, args...)}
}

// post sends a request. It fails only if there is no answer; the engine may have received the request.
func (e *engine) post(ctx context.Context, endpoint string, query url.Values, token string, in any) (engineAnswer, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return engineAnswer{}, err
	}
	at := e.base.JoinPath(endpoint)
	at.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), bytes.NewReader(body))
	if err != nil {
		return engineAnswer{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/snowflake")
	if token != "" {
		request.Header.Set("Authorization", `Snowflake Token="`+token+`"`)
	}
	response, err := e.client.Do(request)
	if err != nil {
		return engineAnswer{}, err
	}
	defer response.Body.Close()
	return readEngineAnswer(response)
}

func readEngineAnswer(response *http.Response) (engineAnswer, error) {
	answer := engineAnswer{status: response.StatusCode}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxEngineAnswer+1))
	switch {
	case err != nil:
		return engineAnswer{}, err
	case len(body) > maxEngineAnswer:
		answer.Message = fmt.Sprintf("its result is larger than %d MiB; select less", maxEngineAnswer>>20)
	case json.Unmarshal(body, &answer) != nil:
		answer = engineAnswer{status: response.StatusCode}
	}
	return answer, nil
}

// tookTooLong is the cause if a statement's context ends at its timeout.
type tookTooLong time.Duration

func (d tookTooLong) Error() string { return "no answer within " + time.Duration(d).String() }

// unreachable is the failure of a statement that the engine has not answered.
func (e *engine) unreachable(ctx context.Context, err error) *failure {
	var after tookTooLong
	switch {
	case errors.As(context.Cause(ctx), &after):
		return timedOut(time.Duration(after))
	case ctx.Err() != nil:
		return canceled()
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return engineFailure("the SQL engine at %s gives no answer: %v. Start it again, or the local Snowflake without a SQL engine.", e.base, err)
}

type engineLogin struct {
	Data engineLoginData `json:"data"`
}

type engineLoginData struct {
	LoginName         string         `json:"LOGIN_NAME"`
	SessionParameters map[string]any `json:"SESSION_PARAMETERS"`
}

// logIn opens a session of the engine, and returns its token.
func (e *engine) logIn(ctx context.Context, at sessionContext, autocommit bool) (string, *failure) {
	query := url.Values{}
	if at.Database != "" {
		query.Set("databaseName", at.Database)
		query.Set("schemaName", cmp.Or(at.Schema, defaultSchema))
	}
	shortly, stop := context.WithTimeout(ctx, engineCallTimeout)
	defer stop()
	answer, err := e.post(shortly, EndpointLogin, query, "", engineLogin{engineLoginData{
		LoginName: engineUser, SessionParameters: map[string]any{"AUTOCOMMIT": autocommit},
	}})
	if err != nil {
		return "", e.unreachable(ctx, err)
	}
	var data struct {
		Token string `json:"token"`
	}
	if !answer.Success || json.Unmarshal(answer.Data, &data) != nil || data.Token == "" {
		return "", engineFailure("the SQL engine at %s opens no session: %s", e.base, answer.text())
	}
	return data.Token, nil
}

// logOut closes a session of the engine, if it was open. It reports no error: an engine that is gone has no sessions.
func (e *engine) logOut(token string) {
	if token == "" {
		return
	}
	ctx, stop := context.WithTimeout(e.ctx, engineCallTimeout)
	defer stop()
	_, _ = e.post(ctx, EndpointClose, url.Values{"delete": {"true"}}, token, struct{}{})
}

// put uploads a file to a path of the engine, and returns the HTTP status.
func (e *engine) put(ctx context.Context, path string, body io.Reader, length int64) (int, error) {
	at, err := e.base.Parse("/" + path)
	if err != nil {
		return 0, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, at.String(), body)
	if err != nil {
		return 0, err
	}
	request.ContentLength = length
	response, err := e.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(response.Body, maxEngineMessage))
	return response.StatusCode, err
}
