package wrappers

import (
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
