package snowkeyprom_test

import (
	"database/sql"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/shared/snowkey"
	"github.com/snowkey/snowkey/shared/snowkey/snowkeyprom"
)

func TestMain(m *testing.M) {
	os.Setenv("SNOWFLAKE_DISABLE_PLATFORM_DETECTION", "true")
	os.Setenv("SF_DISABLE_MINICORE", "true")
	os.Exit(m.Run())
}

func publish(t *testing.T, path string, n int) {
	t.Helper()
	if err := os.WriteFile(path+".new", keyfile.DER.Encode(testkey.Key(n)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestCollector_Metrics(t *testing.T) {
	snowflake := localsnowflake.New()
	snowflake.CreateUser("ETL")
	snowflake.SetPublicKey("ETL", 1, &testkey.Key(0).RSA().PublicKey)
	endpoint := httptest.NewServer(snowflake)
	defer endpoint.Close()
	u, _ := url.Parse(endpoint.URL)
	port, _ := strconv.Atoi(u.Port())
	path := filepath.Join(t.TempDir(), "rsa_key.der")
	publish(t, path, 0)
	connector, err := snowkey.NewConnector(t.Context(), path,
		gosnowflake.Config{Account: "LOCAL", User: "ETL", Protocol: "http", Host: u.Hostname(), Port: port}, snowkey.WithJitter(0))
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	if err := db.PingContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(snowkeyprom.NewCollector(connector, "db"))
	scrape := func() string {
		answer := httptest.NewRecorder()
		promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		return answer.Body.String()
	}
	expect := func(lines ...string) {
		t.Helper()
		text := scrape()
		for _, line := range lines {
			if !strings.Contains(text, "\nsnowkey_pool_"+line+"\n") {
				t.Errorf("no line %q in:\n%s", line, text)
			}
		}
	}
	if problems, err := promlint.New(strings.NewReader(scrape())).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	serving := testkey.Key(0).Fingerprint()
	expect(
		`key_info{db_name="db",fingerprint="`+serving+`",role="serving"} 1`,
		`logins_total{db_name="db"} 1`,
		`open_connections{db_name="db"} 1`,
		`candidate_failed{db_name="db"} 0`,
	)

	publish(t, path, 1)
	for deadline := time.Now().Add(time.Minute); connector.Stats().CandidateErr == nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the candidate is not refused")
		}
	}
	expect(
		`key_info{db_name="db",fingerprint="`+serving+`",role="serving"} 1`,
		`key_info{db_name="db",fingerprint="`+testkey.Key(1).Fingerprint()+`",role="candidate"} 1`,
		`candidate_failed{db_name="db"} 1`,
	)
}

func ExampleNewCollector() {
	var connector *snowkey.Connector // of snowkey.NewConnector
	if err := prometheus.Register(snowkeyprom.NewCollector(connector, "warehouse")); err != nil {
		log.Fatal(err)
	}
}
