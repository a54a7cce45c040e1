package wrappers

import (
	"database/sql"
	"testing"

	"github.com/jmoiron/sqlx"
)

// sqlx does not know the driver "snowkey". For unknown drivers it writes parameters as "?", as Snowflake does.
func TestSqlx_BindsNamedParameters(t *testing.T) {
	a := newAccount(t)
	db, err := sqlx.Open("snowkey", a.dataSourceName())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	query, err := db.PrepareNamedContext(t.Context(), `SELECT :city AS "city", :open AS "open"`)
	if err != nil {
		t.Fatal(err)
	}
	defer query.Close()
	var got, want struct {
		City string
		Open bool
	}
	want.City, want.Open = "Leeds", true
	if err := query.GetContext(t.Context(), &got, want); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestSqlx_FollowsRotation(t *testing.T) {
	a := newAccount(t)
	c := a.connector()
	db := sqlx.NewDb(sql.OpenDB(c), "snowkey")
	t.Cleanup(func() { db.Close() })
	query, err := db.PrepareNamedContext(t.Context(), `SELECT :city AS "city"`)
	if err != nil {
		t.Fatal(err)
	}
	defer query.Close()
	for key := range 2 {
		if key > 0 {
			a.rotate(c, key)
		}
		var city string
		if err := query.GetContext(t.Context(), &city, map[string]any{"city": "Leeds"}); err != nil || city != "Leeds" {
			t.Errorf("key %d: got %q, %v", key, city, err)
		}
		if n := a.executedOnKey(`SELECT ? AS "city"`, key); n != 1 {
			t.Errorf("the query ran %d times on key %d", n, key)
		}
	}
}
