package wrappers

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/snowflakedb/gosnowflake/v2"
	"gorm.io/gorm"
	"gorm.io/gorm/callbacks"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"
	"gorm.io/gorm/migrator"
	"gorm.io/gorm/schema"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/snowkey"
)

// snowflakeDialect lets gorm use a pool of snowkey. gorm has no dialect for Snowflake, and its others do not fit: postgres
// writes parameters as $1, and mysql quotes names with backticks. A program copies this one: it writes parameters as "?",
// and quotes names as standard SQL does.
//
// It is for queries and changes of rows. Leave the creation of tables to golang-migrate, and assign primary keys in the
// program: Snowflake returns no id of an inserted row. There are no savepoints, so set DisableNestedTransaction.
type snowflakeDialect struct{ db *sql.DB }

func (snowflakeDialect) Name() string { return "snowflake" }

func (d snowflakeDialect) Initialize(db *gorm.DB) error {
	db.ConnPool = d.db
	callbacks.RegisterDefaultCallbacks(db, &callbacks.Config{})
	return nil
}

func (d snowflakeDialect) Migrator(db *gorm.DB) gorm.Migrator {
	return migrator.Migrator{Config: migrator.Config{DB: db, Dialector: d}}
}

func (snowflakeDialect) DataTypeOf(field *schema.Field) string { return string(field.DataType) }

func (snowflakeDialect) DefaultValueOf(*schema.Field) clause.Expression {
	return clause.Expr{SQL: "DEFAULT"}
}

func (snowflakeDialect) BindVarTo(w clause.Writer, _ *gorm.Statement, _ any) { w.WriteByte('?') }

func (snowflakeDialect) QuoteTo(w clause.Writer, name string) {
	for i, part := range strings.Split(name, ".") {
		if i > 0 {
			w.WriteByte('.')
		}
		w.WriteString(`"` + strings.ReplaceAll(part, `"`, `""`) + `"`)
	}
}

func (snowflakeDialect) Explain(sql string, values ...any) string {
	return logger.ExplainSQL(sql, nil, `'`, values...)
}

// upperCaseNames are names as Snowflake keeps those that are not quoted in CREATE TABLE.
type upperCaseNames struct{ schema.NamingStrategy }

func (n upperCaseNames) TableName(name string) string {
	return strings.ToUpper(n.NamingStrategy.TableName(name))
}

func (n upperCaseNames) ColumnName(table, name string) string {
	return strings.ToUpper(n.NamingStrategy.ColumnName(table, name))
}

func gormConfig() *gorm.Config {
	return &gorm.Config{
		NamingStrategy:           upperCaseNames{},
		DisableNestedTransaction: true,
		Logger:                   logger.Discard, // errors are returned as well
	}
}

// gorm takes the pool through a dialect, which the program copies from here.
func Example_gorm() {
	pool, err := snowkey.Open(context.Background(), "/run/snowflake/rsa_key.pem",
		gosnowflake.Config{Account: "myorg-myaccount", User: "ETL"})
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	db, err := gorm.Open(snowflakeDialect{pool}, gormConfig())
	if err != nil {
		log.Print(err)
		return
	}
	var names []string
	if err := db.Table("CUSTOMERS").Where("REGION = ?", "EMEA").Pluck("NAME", &names).Error; err != nil {
		log.Print(err)
		return
	}
	fmt.Println(names)
}

// A colour is a row of COLOURS, into which a test inserts, and of VALUES, from which it selects.
type colour struct {
	ID   int    `gorm:"column:COLUMN1;primaryKey;autoIncrement:false"`
	Name string `gorm:"column:COLUMN2"`
}

const fromValues = "VALUES (1, 'red'), (2, 'green')"

func TestGorm_FollowsRotation(t *testing.T) {
	for _, prepares := range []bool{false, true} {
		t.Run(fmt.Sprintf("PrepareStmt=%v", prepares), func(t *testing.T) {
			t.Parallel()
			a := newAccount(t)
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			pool, err := snowkey.Open(ctx, a.keyFile, a.config(), snowkey.WithJitter(0))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { pool.Close() })
			config := gormConfig()
			config.PrepareStmt = prepares
			db, err := gorm.Open(snowflakeDialect{pool}, config)
			if err != nil {
				t.Fatal(err)
			}
			db = db.WithContext(ctx)

			tx := db.Begin()
			insertColour(t, tx, "begun before the rotation")
			queries := queryAlways(t, db)
			queries.wait(t, 20)

			a.assign(2, 1)
			a.publish(1)
			const probe = "SELECT 'does the new key serve?'"
			testenv.Eventually(t, "a query runs on the new key", func() bool {
				if err := db.Exec(probe).Error; err != nil {
					t.Fatal(err)
				}
				ran := a.executions(probe)
				return ran[len(ran)-1].Fingerprint == testkey.Key(1).Fingerprint()
			})
			queries.wait(t, 20)

			if err := db.Transaction(func(tx *gorm.DB) error {
				insertColour(t, tx, "begun after the rotation")
				return nil
			}); err != nil {
				t.Error(err)
			}
			insertColour(t, tx, "still on the old key")
			if err := tx.Commit().Error; err != nil {
				t.Error(err)
			}
			queries.stop(t)

			for _, want := range []struct{ key, rows, commits int }{
				{0, 2, 1}, // the transaction that has begun on the old key ends there
				{1, 1, 1},
			} {
				rows := a.executedOnKey(`INSERT INTO "COLOURS" ("COLUMN1","COLUMN2") VALUES (?,?)`, want.key)
				commits := a.executedOnKey("COMMIT", want.key)
				if rows != want.rows || commits != want.commits {
					t.Errorf("key %d: %d rows and %d commits, want %d and %d", want.key, rows, commits, want.rows, want.commits)
				}
			}
		})
	}
}

// executedOnKey returns how often the statement ran on sessions of the key.
func (a *account) executedOnKey(text string, key int) (n int) {
	for _, st := range a.executions(text) {
		if st.Fingerprint == testkey.Key(key).Fingerprint() {
			n += st.Executions
		}
	}
	return n
}

func insertColour(t *testing.T, tx *gorm.DB, name string) {
	t.Helper()
	result := tx.Create(&colour{ID: 3, Name: name})
	if result.Error != nil || result.RowsAffected != 1 {
		t.Errorf("insert %q: %v, %d rows", name, result.Error, result.RowsAffected)
	}
}

// A queryLoop is a number of goroutines that query until stop, and check each answer.
type queryLoop struct {
	done    context.CancelFunc
	running sync.WaitGroup
	answers atomic.Int64
	failed  atomic.Pointer[error]
}

func queryAlways(t *testing.T, db *gorm.DB) *queryLoop {
	ended, done := context.WithCancel(db.Statement.Context)
	q := &queryLoop{done: done}
	t.Cleanup(func() { done(); q.running.Wait() })
	for range connections {
		q.running.Go(func() {
			for ended.Err() == nil && q.failed.Load() == nil {
				// The query itself is not cancelled: its error would not be the rotation's.
				if err := selectColours(db); err != nil {
					q.failed.Store(&err)
				}
				q.answers.Add(1)
			}
		})
	}
	return q
}

// selectColours runs a query that gorm builds, and one that is written out.
func selectColours(db *gorm.DB) error {
	var colours []colour
	if err := db.Table(fromValues).Find(&colours).Error; err != nil {
		return err
	}
	if len(colours) != 2 || colours[1] != (colour{2, "green"}) {
		return fmt.Errorf("the colours are %+v", colours)
	}
	var bound struct{ Name string }
	if err := db.Raw("SELECT ? AS name", "blue").Scan(&bound).Error; err != nil {
		return err
	}
	if bound.Name != "blue" {
		return fmt.Errorf("the name is %q", bound.Name)
	}
	return nil
}

// wait waits for n more answers.
func (q *queryLoop) wait(t *testing.T, n int64) {
	t.Helper()
	before := q.answers.Load()
	testenv.Eventually(t, "queries are answered", func() bool { return q.answers.Load() >= before+n })
}

// stop ends the queries, and fails the test if one failed.
func (q *queryLoop) stop(t *testing.T) {
	t.Helper()
	q.done()
	q.running.Wait()
	if err := q.failed.Load(); err != nil {
		t.Errorf("a query failed after %d answers: %v", q.answers.Load(), *err)
	}
}
