package wrappers

import (
	"context"
	"fmt"
	"log"
	"testing"

	"github.com/XSAM/otelsql"
	"github.com/snowflakedb/gosnowflake/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/shared/snowkey"
)

// otelsql wraps the connector. Each statement becomes a span of the program's TracerProvider. db.Close also closes the
// connector.
func Example_openTelemetry() {
	ctx := context.Background()
	connector, err := snowkey.NewConnector(ctx, "/run/snowflake/rsa_key.pem", gosnowflake.Config{
		Account:   "myorg-myaccount",
		User:      "ETL",
		Warehouse: "LOADING",
	})
	if err != nil {
		log.Fatal(err)
	}
	db := otelsql.OpenDB(connector, otelsql.WithAttributes(attribute.String("db.system.name", "snowflake")))
	defer db.Close()

	var customers int
	if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM customers").Scan(&customers); err != nil {
		log.Print(err)
		return
	}
	fmt.Println(customers)
}

// A statement whose session has ended runs on a new one. Its caller sees one span, without an error.
func TestOtelsql_StatementHasOneSpan(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	t.Cleanup(func() { provider.Shutdown(context.Background()) })
	a := newAccount(t)
	c := a.connector()
	db := otelsql.OpenDB(c, otelsql.WithTracerProvider(provider))
	t.Cleanup(func() { db.Close() })
	mustExec(t, db, "SELECT 'first'")

	for _, tc := range []struct {
		name   string
		before func()
	}{
		{"at rest", func() {}},
		{"after a rotation", func() { a.rotate(c, 1) }},
		{"after the session has ended", func() { a.snowflake.EndSessions(localsnowflake.SessionGone) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.before()
			exporter.Reset()
			mustExec(t, db, "SELECT 'traced'")
			statements := 0
			for _, span := range exporter.GetSpans() {
				if span.Status.Code == codes.Error {
					t.Errorf("the span %q has the error %q", span.Name, span.Status.Description)
				}
				if span.Name == string(otelsql.MethodConnExec) {
					statements++
				}
			}
			if statements != 1 {
				t.Errorf("the statement has %d spans", statements)
			}
		})
	}
}
