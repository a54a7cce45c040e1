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

// A timedConnector logs how long each connection took. It wraps the connector as the libraries for tracing do, for instance
// otelsql.OpenDB(connector).
type timedConnector struct{ *snowkey.Connector } // with its Close, which db.Close calls: see the package's section on wrappers

var _ io.Closer = timedConnector{}

func (c timedConnector) Connect(ctx context.Context) (driver.Conn, error) {
	began := time.Now()
	conn, err := c.Connector.Connect(ctx)
	log.Printf("connect: %v, %v", time.Since(began), err)
	return conn, err // a wrapper around conn has to pass on driver.SessionResetter and driver.Validator
}

// A wrapper goes between the connector and the pool.
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
