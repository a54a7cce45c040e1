package snowkey_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/shared/snowkey"
)

// Use the pool as any other *sql.DB: it follows the key file by itself.
func Example() {
	ctx := context.Background()
	db, err := snowkey.Open(ctx, "/run/snowflake/rsa_key.pem", gosnowflake.Config{
		Account:   "myorg-myaccount",
		User:      "ETL",
		Warehouse: "LOADING",
	})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	rows, err := db.QueryContext(ctx, "SELECT id, name FROM customers WHERE region = ?", "EMEA")
	if err != nil {
		log.Print(err)
		return
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		var name string
		if err := rows.Scan(&id, &name); err != nil {
			log.Print(err)
			return
		}
		fmt.Println(id, name)
	}
	if err := rows.Err(); err != nil {
		log.Print(err)
	}
}

// config is what a program reads from its environment: the path of the key file, and no key.
type config struct {
	KeyFile   string
	Snowflake gosnowflake.Config
}

func configFromEnvironment() (config, error) {
	c := config{
		KeyFile: os.Getenv("SNOWFLAKE_KEY_FILE"),
		Snowflake: gosnowflake.Config{
			Account:   os.Getenv("SNOWFLAKE_ACCOUNT"),
			User:      os.Getenv("SNOWFLAKE_USER"),
			Role:      os.Getenv("SNOWFLAKE_ROLE"),
			Warehouse: os.Getenv("SNOWFLAKE_WAREHOUSE"),
			Database:  os.Getenv("SNOWFLAKE_DATABASE"),
		},
	}
	if c.KeyFile == "" || c.Snowflake.Account == "" || c.Snowflake.User == "" {
		return config{}, errors.New("SNOWFLAKE_KEY_FILE, SNOWFLAKE_ACCOUNT and SNOWFLAKE_USER are required")
	}
	return c, nil
}

// The context bounds the wait for the first key, which the sidecar may still have to fetch. It does
// not bound the pool's life.
func Example_environment() {
	c, err := configFromEnvironment()
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	db, err := snowkey.Open(ctx, c.KeyFile, c.Snowflake)
	cancel()
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
}

// Close the pool last: requests in flight still need it. Close waits until every session has logged out.
func Example_shutdown() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	db, err := snowkey.Open(ctx, "/run/snowflake/rsa_key.pem", gosnowflake.Config{Account: "myorg-myaccount", User: "ETL"})
	if err != nil {
		log.Print(err)
		return
	}
	defer db.Close()

	server := &http.Server{Addr: ":8080", ReadHeaderTimeout: 5 * time.Second}
	go func() {
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			log.Print(err)
			stop()
		}
	}()
	<-ctx.Done()
	grace, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		log.Print(err)
	}
}

// A program is ready if Snowflake answers it. A candidate that Snowflake does not accept yet does not make it
// unready, since the serving key goes on serving, but the probe's answer should mention it.
func ExampleConnector_Stats() {
	connector, err := snowkey.NewConnector(context.Background(), "/run/snowflake/rsa_key.pem",
		gosnowflake.Config{Account: "myorg-myaccount", User: "ETL"})
	if err != nil {
		log.Fatal(err)
	}
	db := sql.OpenDB(connector)
	defer db.Close()

	http.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		if err := db.PingContext(ctx); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		stats := connector.Stats()
		fmt.Fprintln(w, "serving", stats.Serving)
		if stats.Candidate != "" {
			fmt.Fprintln(w, "waiting for", stats.Candidate, "because of", stats.LastError)
		}
	})
}

// Events are for metrics and alerts. The function must return soon, since the next rotation waits for it.
func ExampleWithEvents() {
	db, err := snowkey.Open(context.Background(), "/run/snowflake/rsa_key.pem",
		gosnowflake.Config{Account: "myorg-myaccount", User: "ETL"},
		snowkey.WithEvents(func(e snowkey.Event) {
			switch e.Kind {
			case snowkey.Activated:
				log.Printf("%s serves, %d sessions were ready after %v", e.Fingerprint, e.Sessions, e.Took)
			case snowkey.Refused, snowkey.Failed:
				log.Printf("%s is tried again: %v", e.Fingerprint, e.Err)
			}
		}))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
}

func ExampleOpen() {
	ctx := context.Background()
	db, err := snowkey.Open(ctx, "/run/snowflake/rsa_key.pem", gosnowflake.Config{
		Account: "myorg-myaccount",
		User:    "ETL",
	})
	if err != nil {
		return
	}
	defer db.Close()
	// From here on db is an ordinary *sql.DB. Keep it for as long as the program runs.
	_ = db.PingContext(ctx)
}
