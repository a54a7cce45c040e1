package snowkey_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/shared/snowkey"
)

// Every operation has the same outcome through this package as with the driver alone. An outcome is a text
// without what differs from run to run.
func TestDriverParity_SameResults(t *testing.T) {
	for name, run := range operations {
		t.Run(name, func(t *testing.T) {
			stages := t.TempDir()
			s := newFixture(t, localsnowflake.WithStages(stages))
			s.stages = stages
			threshold := "100"
			s.cfg.Params = map[string]*string{"client_stage_array_binding_threshold": &threshold}
			want := outcome(run(t.Context(), s, s.bare()))
			_, db := s.connector()
			got := outcome(run(t.Context(), s, db))
			if got != want {
				t.Errorf("snowkey: %s\ndriver:  %s", got, want)
			}
			t.Log(got)
		})
	}
}

var uuid = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

func outcome(value any, err error) string {
	return uuid.ReplaceAllString(fmt.Sprintf("%v; error: %v", value, err), "UUID")
}

// An operation is something that a program does with a pool.
type operation func(ctx context.Context, s *fixture, db *sql.DB) (any, error)

var operations = map[string]operation{
	"ping":   func(ctx context.Context, _ *fixture, db *sql.DB) (any, error) { return nil, db.PingContext(ctx) },
	"scalar": scalar("SELECT 'x'"),
	"number": scalar("SELECT 1"),
	"null":   scalar("SELECT NULL"),
	"bind":   scalar("SELECT ?", "bound"),
	"bind of a null": func(ctx context.Context, _ *fixture, db *sql.DB) (any, error) {
		var v sql.NullString
		err := db.QueryRowContext(ctx, "SELECT ?", sql.NullString{}).Scan(&v)
		return v, err
	},
	"bind of a time": scalar("SELECT ?", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)),
	"bind of an array": func(ctx context.Context, _ *fixture, db *sql.DB) (any, error) {
		array, err := gosnowflake.Array(&[]int{1, 2, 3})
		if err != nil {
			return nil, err
		}
		result, err := db.ExecContext(ctx, "INSERT INTO t VALUES (?)", array)
		if err != nil {
			return nil, err
		}
		return result.RowsAffected()
	},
	"SQL error":     scalar("SELEC 1"),
	"missing table": scalar("SELECT * FROM nowhere"),
	"column types": func(ctx context.Context, _ *fixture, db *sql.DB) (any, error) {
		rows, err := db.QueryContext(ctx, "SELECT current_version()")
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		types, err := rows.ColumnTypes()
		if err != nil {
			return nil, err
		}
		return fmt.Sprint(types[0].Name(), types[0].DatabaseTypeName(), types[0].ScanType()), rows.Err()
	},
	"prepared statement": func(ctx context.Context, _ *fixture, db *sql.DB) (any, error) {
		stmt, err := db.PrepareContext(ctx, "SELECT ?")
		if err != nil {
			return nil, err
		}
		defer stmt.Close()
		var a, b string
		err = errors.Join(stmt.QueryRowContext(ctx, "a").Scan(&a), stmt.QueryRowContext(ctx, "b").Scan(&b))
		return a + b, err
	},
	"transaction": func(ctx context.Context, _ *fixture, db *sql.DB) (any, error) {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return nil, err
		}
		_, err = tx.ExecContext(ctx, "SELECT 1")
		return nil, errors.Join(err, tx.Commit())
	},
	"rollback": func(ctx context.Context, _ *fixture, db *sql.DB) (any, error) {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return nil, err
		}
		return nil, tx.Rollback()
	},
	"read-only transaction": func(ctx context.Context, _ *fixture, db *sql.DB) (any, error) {
		_, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		return nil, err
	},
	"isolation": func(ctx context.Context, _ *fixture, db *sql.DB) (any, error) {
		_, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable})
		return nil, err
	},
	"deadline": func(ctx context.Context, _ *fixture, db *sql.DB) (any, error) {
		if err := db.PingContext(ctx); err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		_, err := db.ExecContext(ctx, "SELECT SYSTEM$WAIT(5)")
		return errors.Is(err, context.DeadlineExceeded), nil
	},
	"request id": func(ctx context.Context, s *fixture, db *sql.DB) (any, error) {
		id := gosnowflake.NewUUID()
		_, err := db.ExecContext(gosnowflake.WithRequestID(ctx, id), "SELECT 'marked'")
		for _, statement := range s.snowflake.Statements() {
			if statement.RequestID == id.String() {
				return statement.Text, err
			}
		}
		return "no such request", err
	},
	"query id": func(ctx context.Context, s *fixture, db *sql.DB) (any, error) {
		ids := make(chan string, 1)
		_, err := db.ExecContext(gosnowflake.WithQueryIDChan(ctx, ids), "SELECT 'marked'")
		statements := s.snowflake.Statements()
		return statements[len(statements)-1].QueryID == <-ids, err
	},
	"query tag": func(ctx context.Context, _ *fixture, db *sql.DB) (any, error) {
		_, err := db.ExecContext(gosnowflake.WithQueryTag(ctx, "tag"), "SELECT 1")
		return nil, err
	},
	"describe only": func(ctx context.Context, _ *fixture, db *sql.DB) (any, error) {
		rows, err := db.QueryContext(gosnowflake.WithDescribeOnly(ctx), "SELECT 1")
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		columns, err := rows.Columns()
		return columns, errors.Join(err, rows.Err())
	},
	"multi-statement": func(ctx context.Context, _ *fixture, db *sql.DB) (any, error) {
		_, err := db.ExecContext(gosnowflake.WithMultiStatement(ctx, 2), "SELECT 1; SELECT 2")
		return nil, err
	},
	"async": func(ctx context.Context, _ *fixture, db *sql.DB) (any, error) {
		rows, err := db.QueryContext(gosnowflake.WithAsyncMode(ctx), "SELECT 'later'")
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		var v string
		for rows.Next() {
			if err := rows.Scan(&v); err != nil {
				return nil, err
			}
		}
		return v, rows.Err()
	},
	// The driver writes a stream to a local stage as an empty file, so that no row arrives.
	"bulk insert through a stage": func(ctx context.Context, s *fixture, db *sql.DB) (any, error) {
		values := make([]int, 1000)
		array, err := gosnowflake.Array(&values)
		if err != nil {
			return nil, err
		}
		result, err := db.ExecContext(ctx, "INSERT INTO t VALUES (?)", array)
		if err != nil {
			return nil, err
		}
		if !s.staged("SYSTEM$BIND") {
			return nil, errors.New("nothing went through a stage")
		}
		return result.RowsAffected()
	},
	"PUT of a file": func(ctx context.Context, s *fixture, db *sql.DB) (any, error) {
		source := filepath.Join(s.t.TempDir(), "source.txt")
		if err := os.WriteFile(source, []byte("content"), 0o600); err != nil {
			return nil, err
		}
		put, err := firstRow(ctx, db, "PUT 'file://"+source+"' @~/dir auto_compress=false overwrite=true")
		if !s.staged("source.txt") {
			return nil, errors.New("nothing is in the stage")
		}
		return put, err
	},
	// The driver does not implement GET from a local stage: the test compares its errors.
	"GET of a file": func(ctx context.Context, s *fixture, db *sql.DB) (any, error) {
		dir := filepath.Join(s.stages, "ETL", "~", "dir")
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "source.txt"), []byte("content"), 0o600)); err != nil {
			return nil, err
		}
		return firstRow(ctx, db, "GET @~/dir/source.txt 'file://"+s.t.TempDir()+"'")
	},
	"PUT of a stream": func(ctx context.Context, s *fixture, db *sql.DB) (any, error) {
		ctx = gosnowflake.WithFilePutStream(ctx, strings.NewReader("streamed"))
		put, err := firstRow(ctx, db, "PUT 'file:///placeholder/stream.txt' @~/streams auto_compress=false overwrite=true")
		if !s.staged("stream.txt") {
			return nil, errors.New("nothing is in the stage")
		}
		return put, err
	},
	"PUT of a missing file": func(ctx context.Context, _ *fixture, db *sql.DB) (any, error) {
		_, err := db.ExecContext(ctx, "PUT file:///nowhere/x @~")
		return nil, err
	},
	"raw: status of a query": raw(func(ctx context.Context, c any) (any, error) {
		rows, err := c.(driver.QueryerContext).QueryContext(ctx, "SELECT 1", nil)
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		status, err := c.(gosnowflake.SnowflakeConnection).GetQueryStatus(ctx, rows.(gosnowflake.SnowflakeRows).GetQueryID())
		return status != nil, err
	}),
	"raw: result": raw(func(ctx context.Context, c any) (any, error) {
		result, err := c.(driver.ExecerContext).ExecContext(ctx, "ALTER SESSION SET QUERY_TAG='x'", nil)
		return fmt.Sprintf("%T", result), err
	}),
	"raw: statement": raw(func(ctx context.Context, c any) (any, error) {
		stmt, err := c.(driver.ConnPrepareContext).PrepareContext(ctx, "SELECT 1")
		if err != nil {
			return nil, err
		}
		rows, err := stmt.(driver.StmtQueryContext).QueryContext(ctx, nil)
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		return stmt.(gosnowflake.SnowflakeStmt).GetQueryID() == rows.(gosnowflake.SnowflakeRows).GetQueryID(), nil
	}),
	"raw: Arrow": raw(func(ctx context.Context, c any) (any, error) {
		loader, err := c.(arrowStreamer).QueryArrowStream(ctx, "SELECT 1")
		if err != nil {
			return nil, err
		}
		return fmt.Sprint(loader.TotalRows(), len(loader.RowTypes())), nil
	}),
}

// firstRow returns the first row of a result, without what differs from run to run.
func firstRow(ctx context.Context, db *sql.DB, text string) (any, error) {
	rows, err := db.QueryContext(ctx, text)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil || !rows.Next() {
		return columns, errors.Join(err, rows.Err())
	}
	cells := make([]any, len(columns))
	for i := range cells {
		cells[i] = new(any)
	}
	if err := rows.Scan(cells...); err != nil {
		return nil, err
	}
	row := map[string]any{}
	for i, name := range columns {
		if name != "source" { // a path of this run
			row[name] = *cells[i].(*any)
		}
	}
	return row, rows.Err()
}

// staged reports whether a file or directory of that name is in a stage, and removes it.
func (s *fixture) staged(name string) (found bool) {
	_ = filepath.WalkDir(s.stages, func(path string, _ os.DirEntry, err error) error {
		if err == nil && filepath.Base(path) == name {
			found = true
			return errors.Join(os.RemoveAll(path), filepath.SkipAll)
		}
		return err
	})
	return found
}

// scalar returns the only value of a query.
func scalar(query string, args ...any) operation {
	return func(ctx context.Context, _ *fixture, db *sql.DB) (any, error) {
		var v any
		err := db.QueryRowContext(ctx, query, args...).Scan(&v)
		return v, err
	}
}

// raw runs do on the driver.Conn of a connection.
func raw(do func(ctx context.Context, c any) (any, error)) operation {
	return func(ctx context.Context, _ *fixture, db *sql.DB) (value any, err error) {
		conn, err := db.Conn(ctx)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		err = conn.Raw(func(c any) error { value, err = do(ctx, c); return err })
		return value, err
	}
}

// This test fails if a later driver adds a method that this package would hide.
func TestDriverParity_HasEveryMethod(t *testing.T) {
	// These take no context. database/sql prefers ExecContext and QueryContext.
	omitted := []string{"Exec", "Query"}
	s := newFixture(t)
	for name, of := range map[string]func(c any) any{
		"connection": func(c any) any { return c },
		"statement": func(c any) any {
			stmt, err := c.(driver.ConnPrepareContext).PrepareContext(t.Context(), "SELECT 1")
			if err != nil {
				t.Fatal(err)
			}
			return stmt
		},
	} {
		methods := func(db *sql.DB) (all []string) {
			_, err := raw(func(_ context.Context, c any) (any, error) {
				typ := reflect.TypeOf(of(c))
				for i := range typ.NumMethod() {
					all = append(all, typ.Method(i).Name)
				}
				return nil, nil
			})(t.Context(), s, db)
			if err != nil {
				t.Fatal(err)
			}
			return all
		}
		wrapped := methods(s.open())
		for _, method := range methods(s.bare()) {
			if !slices.Contains(wrapped, method) && !slices.Contains(omitted, method) {
				t.Errorf("the %s has no %s", name, method)
			}
		}
	}
}

func TestFingerprint_RefusesForeignConnection(t *testing.T) {
	s := newFixture(t)
	conn, err := s.bare().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := snowkey.Fingerprint(conn); err == nil {
		t.Error("no error")
	}
}

func TestRaw_GivesSnowflakeConnection(t *testing.T) {
	s := newFixture(t)
	conn, err := s.open().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	err = conn.Raw(func(raw any) error {
		if _, ok := raw.(gosnowflake.SnowflakeConnection); !ok {
			t.Errorf("%T is no SnowflakeConnection", raw)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
