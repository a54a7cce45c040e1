package wrappers

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
)

// golang-migrate brings gosnowflake 1 into the program. The migrations run through snowkey all the same.
func TestMigrate_RunsMigrations(t *testing.T) {
	table := new(versionTable)
	a := newAccount(t, table.middleware)
	output, complaints, err := runBothDrivers(t, []string{skipGosnowflake2}, "migrate", a.dataSourceName())
	if err != nil {
		t.Fatalf("%v\n%s%s", err, output, complaints)
	}
	if want := "version 2 dirty false\n"; output != want {
		t.Errorf("the program says %q, want %q", output, want)
	}
	a.expectOnKey("INSERT INTO colours VALUES ('red'), ('green');\n", 1, 0)
	a.expectOnKey("INSERT INTO colours VALUES ('blue');\n", 1, 0)
	if got, want := table.versions(), []string{"1, true", "1, false", "2, true", "2, false"}; !slices.Equal(got, want) {
		t.Errorf("the versions are %q, want %q", got, want)
	}
	if left := a.snowflake.Sessions(); len(left) > 0 {
		t.Errorf("sessions left: %+v", left)
	}
}

// A versionTable keeps golang-migrate's table on behalf of the local Snowflake, which has no tables. It replaces
// each statement about that table by one to which the local Snowflake gives the right answer. All other
// statements pass unchanged.
type versionTable struct {
	mu       sync.Mutex
	created  bool
	inserted []string // every row that there was, as "version, dirty"
	current  string   // the row that there is; empty after a DELETE
}

func (v *versionTable) versions() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.inserted)
}

var insertVersion = regexp.MustCompile(`(?s)^INSERT INTO "schema_migrations" \(version,\s*dirty\) VALUES \((\d+),\s*(true|false)\)$`)

func (v *versionTable) middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == localsnowflake.EndpointQuery {
			if err := v.rewrite(r); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// rewrite replaces the statement in the body of a request.
func (v *versionTable) rewrite(r *http.Request) error {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	var body map[string]any
	if err := json.Unmarshal(text, &body); err != nil {
		return err
	}
	statement, _ := body["sqlText"].(string)
	if replacement := v.replace(statement); replacement != statement {
		body["sqlText"] = replacement
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	return nil
}

func (v *versionTable) replace(statement string) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	const done = "SELECT 0"
	insert := insertVersion.FindStringSubmatch(statement)
	switch {
	case strings.HasPrefix(statement, "SELECT COUNT(1) FROM information_schema.tables "):
		if v.created {
			return "SELECT 1"
		}
		return "SELECT 0"
	case strings.HasPrefix(statement, `CREATE TABLE if not exists "schema_migrations" `):
		v.created = true
		return done
	case statement == `DELETE FROM "schema_migrations"`:
		v.current = ""
		return done
	case insert != nil:
		v.current = insert[1] + ", " + insert[2]
		v.inserted = append(v.inserted, v.current)
		return done
	case statement == `SELECT version, dirty FROM "schema_migrations" LIMIT 1`:
		if v.current == "" {
			return "SELECT -1, false" // means the same to golang-migrate as no row
		}
		return "SELECT " + v.current
	}
	return statement
}
