package wrappers

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/shared/snowkey"
)

// sqlx takes the pool. It writes parameters as "?" if it does not know the driver's name, as Snowflake does.
func Example_sqlx() {
	ctx := context.Background()
	pool, err := snowkey.Open(ctx, "/run/snowflake/rsa_key.pem", gosnowflake.Config{Account: "myorg-myaccount", User: "ETL"})
	if err != nil {
		log.Fatal(err)
	}
	db := sqlx.NewDb(pool, "snowkey")
	defer db.Close()

	var cities []struct{ City string }
	if err := db.SelectContext(ctx, &cities, `SELECT city AS "city" FROM customers WHERE region = ?`, "EMEA"); err != nil {
		log.Print(err)
		return
	}
	fmt.Println(cities)
}

// The driver "snowkey" opens the pool by name, too.
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
