package metrics

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/refresh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	stored  = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	checked = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
)

func success(key string, published bool) refresh.Outcome {
	return refresh.Outcome{Key: key, Published: published, Interval: 450 * time.Second, Status: keyfile.Status{StoredAt: stored, CheckedAt: checked, PublishedAt: checked}}
}

func failed(key string, class keyfile.ErrorClass) refresh.Outcome {
	o := success(key, false)
	o.Err = failure.New(class, errors.New("it failed"), "do something")
	return o
}

// serve returns the address of a server that ends with the test.
func serve(t *testing.T, m *Metrics, ready error) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := m.Serve(ctx, listener, func() error { return ready }); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		serving.Wait()
		http.DefaultClient.CloseIdleConnections()
	})
	return listener.Addr().String()
}

func get(t *testing.T, address, path string) (status int, body string) {
	t.Helper()
	client := http.Client{Timeout: 20 * time.Second}
	resp, err := client.Get("http://" + address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

// parse reads what is served with Prometheus's own parser.
func parse(t *testing.T, m *Metrics) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(m.String()))
	if err != nil {
		t.Fatalf("%v in:\n%s", err, m)
	}
	return families
}

func TestMetrics_PassPromlint(t *testing.T) {
	for _, names := range [][]string{{""}, {"etl", "report"}} {
		m := New(Build{"v1", "abc"}, names...)
		for _, name := range names {
			m.Observe(success(name, true))
			m.Observe(failed(name, keyfile.ClassSnowflake))
		}
		families := parse(t, m)
		problems, err := promlint.NewWithMetricFamilies(slices.Collect(maps.Values(families))).Lint()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
		for name, f := range families {
			if f.GetHelp() == "" || !strings.HasPrefix(name, "snowkey_") {
				t.Errorf("%s: help %q", name, f.GetHelp())
			}
		}
	}
}

// The names, types and labels are a promise to dashboards and alarms.
func TestMetrics_FamiliesAndTypes(t *testing.T) {
	m := New(Build{"v1", "abc"}, "etl")
	var got []string
	for name, f := range parse(t, m) {
		line := name + " " + strings.ToLower(f.GetType().String())
		for _, l := range f.GetMetric()[0].GetLabel() {
			line += " " + l.GetName()
		}
		got = append(got, line)
	}
	slices.Sort(got)
	want := []string{
		"snowkey_build_info gauge goversion revision version",
		"snowkey_interval_seconds gauge key",
		"snowkey_key_published_timestamp_seconds gauge key",
		"snowkey_key_stored_timestamp_seconds gauge key",
		"snowkey_last_success_timestamp_seconds gauge key",
		"snowkey_publishes_total counter key",
		"snowkey_reads_total counter key outcome",
		"snowkey_refreshes_total counter key outcome",
		"snowkey_refusals_total counter key reason",
	}
	if !slices.Equal(got, want) {
		t.Errorf("served:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// The tables of metrics are written by hand.
func TestDocumentation_HasEveryMetric(t *testing.T) {
	documented := testenv.Read(t, "../../../docs/configuration.md")
	names := slices.Collect(maps.Keys(parse(t, New(Build{"v1", "abc"}, ""))))
	o := success("", true)
	o.Status.StoredAt = time.Now()
	for _, l := range embed(t, 0, o) {
		set := l["_aws"].(map[string]any)["CloudWatchMetrics"].([]any)[0].(map[string]any)
		for _, m := range set["Metrics"].([]any) {
			names = append(names, m.(map[string]any)["Name"].(string))
		}
	}
	for _, name := range names {
		if !regexp.MustCompile("(?m)^\\|.*`" + name + "[`{]").MatchString(documented) {
			t.Errorf("docs/configuration.md has no row for %s", name)
		}
	}
	if len(names) < 15 {
		t.Errorf("only %d metrics were found: %v", len(names), names)
	}
}

func TestMetrics_LabelsAreEscaped(t *testing.T) {
	const version = "a\"b\\c\nd é"
	m := New(Build{Version: version}, "")
	var read string
	for _, l := range parse(t, m)["snowkey_build_info"].GetMetric()[0].GetLabel() {
		if l.GetName() == "version" {
			read = l.GetValue()
		}
	}
	if read != version {
		t.Errorf("the version %q is read as %q", version, read)
	}
}

// Prometheus refuses what does not say its format.
func TestServe_SaysItsFormat(t *testing.T) {
	resp, err := http.Get("http://" + serve(t, New(Build{}, ""), nil) + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if format := expfmt.ResponseFormat(resp.Header); format.FormatType() != expfmt.TypeTextPlain {
		t.Errorf("Content-Type %q is %q", resp.Header.Get("Content-Type"), format)
	}
}

func TestObserve_Counts(t *testing.T) {
	m := New(Build{"v1", "abc"}, "")
	_, before := get(t, serve(t, m, nil), "/metrics")
	m.Observe(success("", true))
	m.Observe(success("", false))
	m.Observe(failed("", keyfile.ClassNetwork))
	m.Observe(failed("", keyfile.ClassPassphrase))
	_, after := get(t, serve(t, m, nil), "/metrics")
	for _, tc := range []struct{ line, before, after string }{
		{`snowkey_refreshes_total{outcome="ok"}`, "0", "2"},
		{`snowkey_refreshes_total{outcome="network"}`, "0", "1"},
		{`snowkey_refreshes_total{outcome="throttled"}`, "0", "0"},
		{`snowkey_refusals_total{reason="passphrase"}`, "0", "1"},
		{`snowkey_refusals_total{reason="snowflake_refused"}`, "0", "0"},
		{`snowkey_publishes_total`, "0", "1"},
		{`snowkey_last_success_timestamp_seconds`, "0", "1.795608e+09"},
		{`snowkey_key_stored_timestamp_seconds`, "0", "1.7934912e+09"},
		{`snowkey_interval_seconds`, "0", "450"},
	} {
		if !strings.Contains(before, "\n"+tc.line+" "+tc.before+"\n") {
			t.Errorf("before: no %s %s in:\n%s", tc.line, tc.before, before)
		}
		if !strings.Contains(after, "\n"+tc.line+" "+tc.after+"\n") {
			t.Errorf("after: no %s %s in:\n%s", tc.line, tc.after, after)
		}
	}
	if !strings.Contains(after, `snowkey_build_info{goversion="go`) || !strings.Contains(after, `revision="abc",version="v1"} 1`) {
		t.Errorf("no build info in:\n%s", after)
	}
}

func TestServe_Health(t *testing.T) {
	for _, tc := range []struct {
		path   string
		ready  error
		status int
		says   string
	}{
		{"/livez", errors.New("no key"), 200, "ok"},
		{"/readyz", nil, 200, "ok"},
		{"/readyz", errors.New("no key"), 503, "no key"},
		{"/", nil, 404, ""},
		{"/debug/pprof/", nil, 404, ""},
	} {
		if status, body := get(t, serve(t, New(Build{}, ""), tc.ready), tc.path); status != tc.status || !strings.Contains(body, tc.says) {
			t.Errorf("%s: %d %s", tc.path, status, body)
		}
	}
}

func TestCached_HangingVolumeBlocksOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := make(chan struct{})
		reads := 0
		ready := cached(func() error { reads++; <-hangs; return nil })
		go func() { _ = ready() }()
		synctest.Wait()
		for range 3 {
			began := time.Now()
			if err := ready(); !errors.Is(err, errHangs) || time.Since(began) != readyWithin {
				t.Errorf("%v after %v", err, time.Since(began))
			}
		}
		close(hangs)
		synctest.Wait()
		if err := ready(); err != nil || reads != 1 {
			t.Errorf("%v, %d reads", err, reads)
		}
	})
}

func TestCached_ReadsOnceASecondAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var found error
		reads := 0
		ready := cached(func() error { reads++; return found })
		for range 1000 {
			if err := ready(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		if reads != 1 {
			t.Errorf("%d reads in a second", reads)
		}
		found = errors.New("the key is gone")
		if err := ready(); err == nil {
			t.Error("ready a second after the key has gone")
		}
		reads = 0
		for range 100 { // it may be one of several that has gone, and the others are read
			_ = ready()
			time.Sleep(time.Millisecond)
		}
		if reads > 1 {
			t.Errorf("%d reads in a tenth of a second", reads)
		}
		found = nil
		if err := ready(); err != nil {
			t.Error("not ready a tenth of a second after it is there again")
		}
	})
}

// FuzzRequest sends any bytes: the answer is HTTP, short, and soon over.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /metrics?name[]=snowkey_build_info HTTP/1.0\r\nAccept: application/openmetrics-text\r\nAccept-Encoding: gzip\r\n\r\n",
		"HEAD /readyz HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
		"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET http://x/debug/pprof/ HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"GET /livez\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	m := New(Build{"v1", "abc"}, "")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { _ = m.Serve(ctx, listener, func() error { return nil }) })
	f.Cleanup(func() { cancel(); serving.Wait() })
	f.Fuzz(func(t *testing.T, sent []byte) {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(4 * headersWithin))
		_, _ = conn.Write(sent)
		_ = conn.(*net.TCPConn).CloseWrite()
		answer, err := io.ReadAll(conn)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("still connected")
		}
		if len(answer) > 0 && !bytes.HasPrefix(answer, []byte("HTTP/1.")) || len(answer) > 64<<10 {
			t.Errorf("%d bytes: %.200q", len(answer), answer)
		}
	})
}

func TestServe_SlowClientsAreCutOff(t *testing.T) {
	t.Parallel()
	address := serve(t, New(Build{}, ""), nil)
	for name, sent := range map[string]string{
		"nothing":                           "",
		"half a header":                     "GET /livez HTTP/1.1\r\nHost: x\r\nX-",
		"no body":                           "POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n",
		"a whole request, and then nothing": "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, sent)
			began := time.Now()
			_ = conn.SetReadDeadline(began.Add(4 * headersWithin))
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 3*headersWithin {
				t.Errorf("still connected after %v: %v", time.Since(began), err)
			}
		})
	}
}

// hold opens connections and opens each again when it is closed, as a program of the same task can.
func hold(t *testing.T, address string, connections int) {
	t.Helper()
	var holding sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for range connections {
		holding.Go(func() {
			for ctx.Err() == nil {
				conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
				if err != nil {
					continue
				}
				closed := context.AfterFunc(ctx, func() { conn.Close() })
				_, _ = io.WriteString(conn, "GET /readyz HTTP/1.1\r\nHost: x\r\n")
				_, _ = conn.Read(make([]byte, 10))
				closed()
				conn.Close()
			}
		})
	}
	t.Cleanup(func() { cancel(); holding.Wait() })
}

func TestServe_HeldConnectionsBlockNoOther(t *testing.T) {
	testenv.Slow(t)
	address := serve(t, New(Build{}, ""), nil)
	hold(t, address, 200)
	for range 10 {
		time.Sleep(100 * time.Millisecond)
		began := time.Now()
		status, _ := get(t, address, "/readyz")
		if took := time.Since(began); status != http.StatusOK || took > 15*time.Second { // those that hold connect again without end
			t.Errorf("/readyz answers %d after %v", status, took)
		}
	}
}

// embed returns the lines that refreshes write into the log.
func embed(t *testing.T, after time.Duration, refreshes ...refresh.Outcome) []map[string]any {
	t.Helper()
	var text bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		e := NewEmbedded("app", slog.New(slog.NewJSONHandler(&text, nil)))
		time.Sleep(after)
		for _, o := range refreshes {
			e.Observe(o)
		}
	})
	var all []map[string]any
	for line := range strings.Lines(text.String()) {
		var l map[string]any
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		all = append(all, l)
	}
	return all
}

// The rules are those of AWS's specification of the embedded metric format.
func TestEmbedded_IsWhatCloudWatchReads(t *testing.T) {
	now := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // when synctest's clock begins
	o := success("etl", true)
	o.Status.StoredAt, o.Status.CheckedAt = now.Add(-48*time.Hour), now
	for i, l := range embed(t, 0, o, failed("", keyfile.ClassSnowflake)) {
		aws := l["_aws"].(map[string]any)
		if at := int64(aws["Timestamp"].(float64)); at != now.UnixMilli() {
			t.Errorf("timestamp %d", at)
		}
		if len(aws) != 2 {
			t.Errorf("_aws has %v", aws)
		}
		sets := aws["CloudWatchMetrics"].([]any)
		if len(sets) != 1 {
			t.Fatalf("%d sets of metrics", len(sets))
		}
		set := sets[0].(map[string]any)
		if set["Namespace"] != "Snowkey" {
			t.Errorf("namespace %v", set["Namespace"])
		}
		if got, _ := json.Marshal(set["Dimensions"]); i == 0 && string(got) != `[["Service"],["Service","Key"]]` || i == 1 && string(got) != `[["Service"]]` {
			t.Errorf("dimensions %s", got)
		}
		for _, dimensions := range set["Dimensions"].([]any) {
			for _, d := range dimensions.([]any) {
				if value, ok := l[d.(string)].(string); !ok || value == "" {
					t.Errorf("dimension %v has the value %v", d, l[d.(string)])
				}
			}
		}
		var names []string
		for _, m := range set["Metrics"].([]any) {
			m := m.(map[string]any)
			names = append(names, m["Name"].(string))
			if _, ok := l[m["Name"].(string)].(float64); !ok {
				t.Errorf("%v is no number: %v", m["Name"], l[m["Name"].(string)])
			}
			if !slices.Contains([]any{"Count", "None"}, m["Unit"]) {
				t.Errorf("%v has the unit %v", m["Name"], m["Unit"])
			}
		}
		if i == 0 && (l["KeyAgeDays"] != 2.0 || l["MinutesSinceSuccess"] != 0.0 || l["MinutesLate"] != 0.0 || l["RefreshesSucceeded"] != 1.0 || l["KeysPublished"] != 1.0 || l["IntervalMinutes"] != 7.5 || l["Key"] != "etl") {
			t.Errorf("%v", l)
		}
		if i == 1 && (l["RefreshesFailed"] != 1.0 || l["KeysRefused"] != 1.0 || l["class"] != "snowflake_refused" || l["Key"] != nil) {
			t.Errorf("%v", l)
		}
		if len(names) > 100 || !slices.Contains(names, "MinutesSinceSuccess") {
			t.Errorf("metrics %v", names)
		}
	}
}

// An alarm has to see a task that never had a key, too.
func TestEmbedded_WithoutASuccessTheTimeIsSinceTheStart(t *testing.T) {
	o := refresh.Outcome{Err: errors.New("no")}
	l := embed(t, 20*time.Minute, o)[0]
	if l["MinutesSinceSuccess"] != 20.0 {
		t.Errorf("%v", l["MinutesSinceSuccess"])
	}
	if _, ok := l["KeyAgeDays"]; ok {
		t.Error("there is no key, and it has an age")
	}
}

// A predecessor's success has a time by the clock of then; that of this process is counted without a clock. (The clock
// of synctest begins in 2000, so that checked is far in the future.)
func TestEmbedded_TimeSinceASuccessIsIndependentOfTheClock(t *testing.T) {
	var text bytes.Buffer
	synctest.Test(t, func(*testing.T) {
		e := NewEmbedded("app", slog.New(slog.NewJSONHandler(&text, nil)))
		e.Observe(failed("", keyfile.ClassNetwork))
		e.Observe(success("", false))
		time.Sleep(20 * time.Minute)
		e.Observe(failed("", keyfile.ClassNetwork))
	})
	var minutes []float64
	for line := range strings.Lines(text.String()) {
		var l struct{ MinutesSinceSuccess float64 }
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		minutes = append(minutes, l.MinutesSinceSuccess)
	}
	if want := []float64{0, 0, 20}; !slices.Equal(minutes, want) {
		t.Errorf("%v minutes, want %v", minutes, want)
	}
}

// A task that SSM throttles refreshes rarely, which is not late; a missed refresh is.
func TestEmbedded_RareRefreshesAreNeitherSilentNorLate(t *testing.T) {
	type line struct{ RefreshesSucceeded, RefreshesFailed, IntervalMinutes, MinutesSinceSuccess, MinutesLate float64 }
	var text bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		e := NewEmbedded("app", slog.New(slog.NewJSONHandler(&text, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { e.Run(ctx); close(done) }()
		time.Sleep(20 * time.Minute) // before the first refresh there is nothing to say
		o := success("", false)
		o.Interval = 5 * time.Minute
		for range 4 {
			e.Observe(o)
			time.Sleep(5*time.Minute + 30*time.Second)
		}
		o.Interval = 20 * time.Minute
		e.Observe(o)
		time.Sleep(40 * time.Minute)
		cancel()
		<-done
	})
	var lines []line
	for text := range strings.Lines(text.String()) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	want := []line{{1, 0, 5, 0, 0}, {1, 0, 5, 0, 0}, {1, 0, 5, 0, 0}, {1, 0, 5, 0, 0}, {1, 0, 20, 0, 0},
		{0, 0, 20, 6, 0}, {0, 0, 20, 12, 0}, {0, 0, 20, 18, 0}, {0, 0, 20, 24, 4}, {0, 0, 20, 30, 10}, {0, 0, 20, 36, 16}}
	if !slices.Equal(lines, want) {
		t.Errorf("lines %v, want %v", lines, want)
	}
}

func TestEmbedded_WithoutAServiceWritesNothing(t *testing.T) {
	var text strings.Builder
	e := NewEmbedded("", slog.New(slog.NewJSONHandler(&text, nil)))
	e.Observe(success("", true))
	e.ObserveRead("", nil)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	e.Run(over)
	if text.Len() > 0 {
		t.Errorf("written: %s", &text)
	}
}
