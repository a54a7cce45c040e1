package snowflake_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"unicode"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
)

// inPlace is a client of a server in Snowflake's place.
func inPlace(t *testing.T, server *httptest.Server) *snowflake.Client {
	t.Helper()
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return &snowflake.Client{
		Account: "a", Login: "u", User: "U", Protocol: u.Scheme, Host: u.Hostname(), Port: port, UserAgent: "test",
		HTTP: server.Client(), RetryInterval: 1,
	}
}

func TestClient_FollowsNoRedirect(t *testing.T) {
	var followed, calls atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
	defer other.Close()
	host := strings.TrimPrefix(other.URL, "http://")
	for name, tc := range map[string]struct{ location, says string }{
		"another host":   {"http://somebody:secret@" + host + "/path?token=secret#secret", "http://" + host + "/path,"},
		"the same host":  {"/elsewhere?token=secret", "/elsewhere,"},
		"no location":    {"", "no address,"},
		"no address":     {"http://secret secret/%zz", "no address,"},
		"no host":        {"mailto:secret@example.com", "no address,"},
		"another scheme": {"file:///secret", "no address,"},
	} {
		for _, status := range []int{301, 302, 303, 304, 307, 308} {
			calls.Store(0)
			client := inPlace(t, httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				if tc.location != "" {
					w.Header().Set("Location", tc.location)
				}
				w.WriteHeader(status)
			})))
			_, queried := client.Query(t.Context(), testkey.Key(0), "SELECT 1")
			for call, outcome := range map[string]struct {
				err   error
				class keyfile.ErrorClass
			}{
				"accepts": {client.Accepts(t.Context(), testkey.Key(0)), keyfile.ClassOther}, // a wrong address is no outage
				"query":   {queried, keyfile.ClassNetwork},
				"change":  {client.Change(t.Context(), testkey.Key(0), "ALTER"), keyfile.ClassNetwork}, // which leaves the end open
			} {
				err := outcome.err
				if err == nil || failure.Class(err) != outcome.class || !strings.Contains(err.Error(), tc.says) ||
					!strings.Contains(err.Error(), "SNOWFLAKE_HOST") || strings.Contains(err.Error(), "secret") {
					t.Errorf("%s, %d, %s: %v", name, status, call, err)
				}
			}
			want := int32(3)
			if status == 307 || status == 308 {
				want += 2 // more attempts at the query, at the same address
			}
			if n := calls.Load(); n != want || followed.Load() != 0 {
				t.Errorf("%s, %d: %d requests, want %d; %d followed a redirect", name, status, n, want, followed.Load())
			}
		}
	}
}

// The other account would take the login token: it has the same user and key.
func TestClient_SendsNoTokenWhereARedirectPoints(t *testing.T) {
	for _, status := range []int{http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		server, client, key := assigned(t)
		other, there, _ := assigned(t)
		client.RetryInterval = 1
		var requests atomic.Int32
		redirect := func(first int32) func(localsnowflake.Request) *localsnowflake.Fault {
			requests.Store(0)
			return func(localsnowflake.Request) *localsnowflake.Fault {
				if requests.Add(1) > first {
					return nil
				}
				return localsnowflake.RedirectTo(there.Address(), status)
			}
		}
		server.Intercept(redirect(1))
		if _, err := client.Query(t.Context(), key, "SELECT 1"); err != nil {
			t.Errorf("%d: a query that is redirected once: %v", status, err)
		}
		server.Intercept(redirect(1000))
		for call, err := range map[string]error{
			"accepts": client.Accepts(t.Context(), key),
			"change":  client.Change(t.Context(), key, "ALTER USER etl UNSET RSA_PUBLIC_KEY_2"),
		} {
			if err == nil || !strings.Contains(err.Error(), "points to "+there.Address()+"/api/v2/statements, which is not followed") {
				t.Errorf("%d, %s: %v", status, call, err)
			}
		}
		if logins := other.Logins(); len(logins) > 0 {
			t.Errorf("%d: the other account got %+v", status, logins)
		}
	}
}

// Every text of an answer goes into the log, status.json and terminals.
func TestClient_TextsAreCutAndClean(t *testing.T) {
	long := `\u001b[2J` + strings.Repeat("x", 100_000)
	for name, tc := range map[string]struct {
		status int
		body   string
	}{
		"a refusal":           {401, `{"code":"390144","message":"` + long + `"}`},
		"a refusal by code":   {403, `{"code":"390422","message":"` + long + `"}`},
		"an unknown code":     {400, `{"code":"` + long + `","message":"x"}`},
		"a statement's error": {422, `{"code":"` + long + `","sqlState":"` + long + `","message":"` + long + `"}`},
		"not found":           {404, `{"code":"1","message":"` + long + `"}`},
	} {
		client := inPlace(t, httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tc.status)
			_, _ = io.WriteString(w, tc.body)
		})))
		if _, err := client.Query(t.Context(), testkey.Key(0), "SELECT 1"); len(err.Error()) > 2000 || strings.ContainsFunc(err.Error(), unicode.IsControl) {
			t.Errorf("%s: %d bytes: %.100q", name, len(err.Error()), err)
		}
	}
}

func TestClient_CellsAreFitForMessages(t *testing.T) {
	rows := ""
	client := inPlace(t, httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"code":"090001","resultSetMetaData":{"rowType":[{"name":"name"},{"name":"fingerprint"}]},"data":`+rows+`}`)
	})))
	rows = `[["RSA_PUBLIC_KEY_FP","SHA256:\u001b[2J\n` + strings.Repeat("x", 10_000) + `"]]`
	slots, err := client.Slots(t.Context(), testkey.Key(0))
	if got := slots[0].Fingerprint; err != nil || len(got) > 1000 || strings.ContainsFunc(got, unicode.IsControl) {
		t.Errorf("%.100q, error %v", got, err)
	}
	for name, known := range map[string]bool{"ETL": true, "a  b": true, `a\u001b[2J`: false, strings.Repeat("x", 256): false} {
		rows = `[["` + name + `","SHA256:x"]]`
		pairs, err := client.KeyPairs(t.Context(), testkey.Key(0))
		if known && (err != nil || len(pairs) != 1 || pairs[0].Name != name) {
			t.Errorf("%q: %+v, error %v", name, pairs, err)
		}
		if !known && (err == nil || strings.ContainsFunc(err.Error(), unicode.IsControl)) {
			t.Errorf("%.100q: %+v, error %v", name, pairs, err)
		}
	}
}

func TestClient_MalformedAnswerIsCleanInTheError(t *testing.T) {
	for _, sent := range []string{"HTTP/1.1 2\x1b[2Jx " + strings.Repeat("y", 10_000) + "\r\n\r\n", "HTTP/1.1 200 OK\r\n\x1b[2J" + strings.Repeat("z", 10_000) + "\r\n\r\n"} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Read(make([]byte, 4096))
				_, _ = io.WriteString(conn, sent)
				conn.Close()
			}
		}()
		client := &snowflake.Client{Account: "a", Login: "u", User: "U", Protocol: "http", Host: "127.0.0.1", Port: listener.Addr().(*net.TCPAddr).Port}
		_, reached := client.Reach(t.Context())
		for _, err := range []error{client.Accepts(t.Context(), testkey.Key(0)), reached} {
			if err == nil || len(err.Error()) > 1000 || strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Errorf("%.200q", err)
			}
		}
	}
}

func TestClient_LongAnswerIsRefused(t *testing.T) {
	var sent atomic.Int64
	client := inPlace(t, httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n, _ := io.WriteString(w, `{"code":"090001","data":[`)
		for err := error(nil); err == nil && sent.Add(int64(n)) < 64<<20; {
			n, err = w.Write([]byte(strings.Repeat("[],", 10_000)))
		}
	})))
	_, err := client.Query(t.Context(), testkey.Key(0), "DESC USER u")
	if failure.Class(err) != keyfile.ClassNetwork || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("error %v of class %s", err, failure.Class(err))
	}
}

func TestChange_RefusedPollLeavesTheEndOpen(t *testing.T) {
	client := inPlace(t, httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, `{"code":"333334","statementStatusUrl":"/api/v2/statements/1"}`)
	})))
	err := client.Change(t.Context(), testkey.Key(0), "ALTER")
	if failure.Class(err) != keyfile.ClassNetwork || !strings.Contains(err.Error(), "not known") {
		t.Errorf("error %v of class %s", err, failure.Class(err))
	}
}

func TestQuery_StatusAddressStaysAtSnowflake(t *testing.T) {
	var asked atomic.Pointer[string]
	respond := func(address string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				got := r.URL.String()
				asked.Store(&got)
				_, _ = io.WriteString(w, `{"code":"090001","data":[]}`)
				return
			}
			w.WriteHeader(http.StatusAccepted)
			_, _ = io.WriteString(w, `{"code":"333334","statementStatusUrl":"`+address+`"}`)
		}
	}
	const handle = "/api/v2/statements/e4ce975e-f7ff-4b5e-b15e-bf25f59371ae"
	for address, want := range map[string]string{
		handle:                         handle,
		handle + "?requestId=7":        handle + "?requestId=7",
		"http://127.0.0.1" + handle:    handle,
		"https://example.com" + handle: "",
		"//example.com" + handle:       "",
		"/session/v1/login-request":    "",
		"/api/v2/statements/../x":      "",
		"/api/v2/statements/%2e%2e":    "",
		"/api/v2/statements/":          "",
		handle + "/cancel":             "",
		"":                             "",
		":":                            "",
	} {
		asked.Store(new(string))
		_, err := inPlace(t, httptest.NewServer(respond(address))).Query(t.Context(), testkey.Key(0), "SELECT 1")
		if got := *asked.Load(); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: the client asked for %q, error %v", address, got, err)
		}
		if err != nil && failure.Class(err) != keyfile.ClassNetwork {
			t.Errorf("%q: class %s", address, failure.Class(err))
		}
	}
}

func TestClient_KeepsNoConnection(t *testing.T) {
	server, client, key := assigned(t)
	var idle atomic.Int32
	endpoint := httptest.NewUnstartedServer(server)
	endpoint.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateIdle {
			idle.Add(1)
		}
	}
	endpoint.Start()
	client.Port = inPlace(t, endpoint).Port
	for range 3 {
		if _, err := client.Query(t.Context(), key, "SELECT CURRENT_USER()"); err != nil {
			t.Fatal(err)
		}
	}
	if n := idle.Load(); n != 0 {
		t.Errorf("%d connections were left open", n)
	}
}
