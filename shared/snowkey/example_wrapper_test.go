package snowkey_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"io"
	"log"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/shared/snowkey"
)

// A timedConnector logs how long each connection took.
type timedConnector struct{ *snowkey.Connector } // with its Close, which db.Close calls: see the package's section on wrappers

var _ io.Closer = timedConnector{}

func (c timedConnector) Connect(ctx context.Context) (driver.Conn, error) {
	began := time.Now()
	conn, err := c.Connector.Connect(ctx)
	log.Printf("connect: %v, %v", time.Since(began), err)
	return conn, err // a wrapper around conn has to pass on driver.SessionResetter and driver.Validator
}

// A wrapper goes between the connector and the pool. Libraries for tracing do the same, for instance
//
//	db := otelsql.OpenDB(connector)
func ExampleNewConnector_wrapper() {
	connector, err := snowkey.NewConnector(context.Background(), "/run/snowflake/rsa_key.pem",
		gosnowflake.Config{Account: "myorg-myaccount", User: "ETL"})
	if err != nil {
		log.Fatal(err)
	}
	db := sql.OpenDB(timedConnector{connector})
	defer db.Close()
	if err := connector.Health(); err != nil {
		log.Print(err)
	}
}

// Libraries over a *sql.DB take the pool as it is, as customers does here. For instance sqlx and gorm:
//
//	db := sqlx.NewDb(pool, "snowkey")
//	db, err := gorm.Open(dialect{pool}, &gorm.Config{})
//
// gorm has no dialect for Snowflake: internal/suite/wrappers/gorm_test.go has one to copy.
func Example_libraries() {
	type queryer interface { // as *sql.DB, *sql.Conn and *sql.Tx have it
		QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	}
	customers := func(ctx context.Context, db queryer) (n int, err error) {
		err = db.QueryRowContext(ctx, "SELECT COUNT(*) FROM customers").Scan(&n)
		return n, err
	}

	ctx := context.Background()
	pool, err := snowkey.Open(ctx, "/run/snowflake/rsa_key.pem", gosnowflake.Config{Account: "myorg-myaccount", User: "ETL"})
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	log.Print(customers(ctx, pool))
}
