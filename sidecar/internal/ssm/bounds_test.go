package ssm

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

// hostile has every AWS service at an address whose answers are not AWS's.
func hostile(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	newAccount(t, server.URL)
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	return server.URL
}

// allocated is how much memory a call takes, from the first to the last byte.
func allocated(call func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	call()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

const fourMB = 4<<20 - 200

// hostileAnswers have a valid start.
var hostileAnswers = map[string]struct {
	status int
	body   string
}{
	"empty objects":      {200, `{"Parameters":[` + strings.Repeat("{},", fourMB/3) + `{}]}`},
	"lists in lists":     {200, `{"Parameters":` + strings.Repeat("[", fourMB)},
	"objects in objects": {200, `{"X":` + strings.Repeat(`{"a":`, fourMB/5)},
	"members":            {200, `{"Parameters":[{"Name":"/key"` + strings.Repeat(`,"a":1`, fourMB/6) + `}]}`},
	"invalid parameters": {200, `{"InvalidParameters":["a"` + strings.Repeat(`,"a"`, fourMB/4) + `]}`},
	"a long value":       {200, `{"Parameters":[{"Name":"/key","Version":1,"Value":"` + strings.Repeat("A", fourMB) + `"}]}`},
	"spaces":             {200, `{"Parameters":[` + strings.Repeat(" ", fourMB) + `]}`},
	"a long message":     {400, `{"__type":"AccessDeniedException","message":"` + strings.Repeat("A", fourMB) + `"}`},
	"lists in an error":  {400, `{"__type":"X","message":` + strings.Repeat("[", fourMB)},
	"an error's page":    {503, strings.Repeat("<html>", fourMB/6)},
}

func TestReader_HostileAnswerCostsLittle(t *testing.T) {
	for name, tc := range hostileAnswers {
		t.Run(name, func(t *testing.T) {
			hostile(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			})
			r := newReading(t, Parameters{Key: "/key"})
			var err error
			if n := allocated(func() { err = failedFetch(t.Context(), r) }); n > 6<<20 { // the server's share included
				t.Errorf("it took %d MB", n>>20)
			}
			if err == nil || failure.Class(err) != keyfile.ClassNetwork || len(err.Error()) > 1000 {
				t.Errorf("an error of %d bytes and class %s: %.300s", len(fmt.Sprint(err)), failure.Class(err), err)
			}
		})
	}
}

func TestReader_AnswerWithoutAnEndIsNotReadToItsEnd(t *testing.T) {
	const most = 50 << 20
	for name, status := range map[string]int{"result": http.StatusOK, "error": http.StatusInternalServerError} {
		t.Run(name, func(t *testing.T) {
			var wrote atomic.Int64
			hostile(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(status)
				_, _ = io.WriteString(w, `{"Parameters":[{"Name":"/a","Value":"`)
				for chunk := []byte(strings.Repeat("A", 64<<10)); wrote.Load() < most; {
					n, err := w.Write(chunk)
					if wrote.Add(int64(n)); err != nil {
						return
					}
				}
			})
			err := failedFetch(t.Context(), newReading(t, Parameters{Key: "/a"}))
			if err == nil || failure.Class(err) != keyfile.ClassNetwork || !strings.Contains(err.Error(), "longer than") {
				t.Errorf("error %v of class %s", err, failure.Class(err))
			}
			if wrote.Load() >= most {
				t.Error("it was read to the end")
			}
		})
	}
}

func TestReader_LongHeadersAreRefused(t *testing.T) {
	hostile(t, func(w http.ResponseWriter, _ *http.Request) {
		for i := range 120 {
			w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("b", 8000))
		}
		_, _ = io.WriteString(w, `{"Parameters":[]}`)
	})
	if err := failedFetch(t.Context(), newReading(t, Parameters{Key: "/a"})); failure.Class(err) != keyfile.ClassNetwork {
		t.Errorf("error %v", err)
	}
}

// The longest values that AWS stores are read, however JSON writes them.
func TestReader_LongestValuesFit(t *testing.T) {
	aws, server := local(t)
	parameter := strings.Repeat("\x01", advancedLimit)
	server.Put(aws.name("/long"), parameter)
	want(t, fetch(t, aws.source(aws.name("/long"), aws.name("/pass")), Revision{}), parameter, "PASS", "1")
	var keys []Parameters
	for i := range maxNames {
		id := fmt.Sprintf("app/%d", i)
		server.PutSecret(id, strings.Repeat([]string{"\x01", `"`, "k"}[i%3], secretLimit))
		keys = append(keys, Parameters{Key: secretsManagerPrefix + id})
	}
	r := newReading(t, keys...)
	for i, f := range r.Fetch(t.Context(), r.wanted(make([]Revision, len(keys)))) {
		if f.Err != nil || len(f.Material.Text.Bytes()) != secretLimit {
			t.Errorf("secret %d: %v", i, f.Err)
		}
	}
}

// AWS keeps 100 versions of a parameter.
func TestStore_HistoryWithoutAnEndIsRefused(t *testing.T) {
	var pages atomic.Int64
	hostile(t, func(w http.ResponseWriter, _ *http.Request) {
		next := pages.Add(1)
		one := `{"Name":"/key","Type":"SecureString","Value":"` + strings.Repeat("A", 8000) + `"}`
		fmt.Fprintf(w, `{"Parameters":[%s],"NextToken":"%d"}`, strings.TrimSuffix(strings.Repeat(one+",", 50), ","), next)
	})
	s, err := OpenStore(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.History(t.Context(), "/key", true)
	if failure.Class(err) != keyfile.ClassNetwork || pages.Load() > 4 {
		t.Errorf("%d pages: %v", pages.Load(), err)
	}
}

// A message goes into the log, status.json and a terminal.
func TestErrors_TextsOfAWSAreCutAndClean(t *testing.T) {
	message := "\x1b[2Jno\nlevel=ERROR " + strings.Repeat("é", 3000)
	aws, server := local(t)
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	answer(server, "AccessDeniedException", message)
	s, err := OpenStore(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, latest := s.Latest(t.Context(), "/key")
	_, other := s.Latest(t.Context(), "arn:aws:ssm:us-east-1:123456789012:parameter/key")
	for name, err := range map[string]error{"reader": failedFetch(t.Context(), aws.source("/key", "")), "store": latest, "STS": other} {
		text := err.Error()
		if len(text) > 2000 || strings.ContainsAny(text, "\x1b\n") || !utf8.ValidString(text) || !strings.Contains(text, "no level=") {
			t.Errorf("%s: %d bytes: %.200q", name, len(text), text)
		}
	}
}

// Credentials do not come from SSM, and what gives them is bounded as well.
func TestCredentials_HostileEndpointCostsLittle(t *testing.T) {
	for name, body := range map[string]string{
		"lists in lists": `{"AccessKeyId":` + strings.Repeat("[", fourMB),
		"members":        `{"a":1` + strings.Repeat(`,"a":1`, fourMB/6) + `}`,
		"a long token":   `{"AccessKeyId":"a","SecretAccessKey":"b","Token":"` + strings.Repeat("A", fourMB) + `"}`,
	} {
		for _, status := range []int{200, 404} {
			t.Run(fmt.Sprint(name, " with status ", status), func(t *testing.T) {
				url := hostile(t, func(w http.ResponseWriter, _ *http.Request) {
					w.WriteHeader(status)
					_, _ = io.WriteString(w, body)
				})
				fromEndpoint(t, url)
				r := newReading(t, Parameters{Key: "/key"})
				var err error
				if n := allocated(func() { err = failedFetch(t.Context(), r) }); n > 12<<20 { // of up to three attempts
					t.Errorf("it took %d MB", n>>20)
				}
				if failure.Class(err) != keyfile.ClassCredentials || len(err.Error()) > 1000 {
					t.Errorf("%d bytes: %.300s", len(fmt.Sprint(err)), err)
				}
			})
		}
	}
}

func fromEndpoint(t *testing.T, url string) {
	t.Helper()
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", t.TempDir())
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
}

// A request has a session token, and one that stores a passphrase has the passphrase.
func TestClient_FollowsNoRedirect(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			var followed atomic.Int64
			other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
			defer other.Close()
			url := hostile(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, status) })
			s, err := OpenStore(t.Context(), Options{})
			if err != nil {
				t.Fatal(err)
			}
			_, putErr := s.Put(t.Context(), Write{Name: "/pass"})
			_, stsErr := s.Latest(t.Context(), "arn:aws:ssm:us-east-1:123456789012:parameter/key")
			readErr := failedFetch(t.Context(), newReading(t, Parameters{Key: "/key"}))
			fromEndpoint(t, url)
			credentialsErr := failedFetch(t.Context(), newReading(t, Parameters{Key: "/key"}))
			for name, err := range map[string]error{"put": putErr, "STS": stsErr, "read": readErr, "credentials": credentialsErr} {
				if err == nil || !strings.Contains(err.Error(), "redirect") {
					t.Errorf("%s: %v", name, err)
				}
			}
			if n := followed.Load(); n != 0 {
				t.Errorf("%d requests followed", n)
			}
		})
	}
}

// An answer that comes before net/http has sent the body lost its connection, a few in a hundred.
func TestLoadConfig_AnswerMayComeBeforeTheRequestIsSent(t *testing.T) {
	newAccount(t, "http://localhost")
	cfg, err := LoadConfig(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	hiding, ok := cfg.HTTPClient.(withoutWriteTo)
	if !ok {
		t.Fatalf("requests go through a %T", cfg.HTTPClient)
	}
	var body io.ReadCloser
	hiding.HTTPClient = doFunc(func(r *http.Request) (*http.Response, error) {
		body = r.Body
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(`{"Parameters":[]}`))}, nil
	})
	cfg.HTTPClient = hiding
	if _, err := ssm.NewFromConfig(cfg).GetParameters(t.Context(), &ssm.GetParametersInput{Names: []string{"/a"}}); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, body); n != 0 || err != nil {
		t.Errorf("%d bytes and %v of the body that the SDK has closed: net/http takes an error for one of the connection", n, err)
	}
}

type doFunc func(*http.Request) (*http.Response, error)

func (do doFunc) Do(r *http.Request) (*http.Response, error) { return do(r) }
