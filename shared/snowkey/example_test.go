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

// Everything that database/sql does is done as ever: the pool looks after the key.
func Example() {
	ctx := context.Background()
	db, err := snowkey.Open(ctx, "/run/snowflake/rsa_key.der", gosnowflake.Config{
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

// settings are what a program has in its environment: no key among them, only the path of its file.
type settings struct {
	KeyFile   string
	Snowflake gosnowflake.Config
}

func settingsFromEnvironment() (settings, error) {
	s := settings{
		KeyFile: os.Getenv("SNOWFLAKE_KEY_FILE"),
		Snowflake: gosnowflake.Config{
			Account:   os.Getenv("SNOWFLAKE_ACCOUNT"),
			User:      os.Getenv("SNOWFLAKE_USER"),
			Role:      os.Getenv("SNOWFLAKE_ROLE"),
			Warehouse: os.Getenv("SNOWFLAKE_WAREHOUSE"),
			Database:  os.Getenv("SNOWFLAKE_DATABASE"),
		},
	}
	if s.KeyFile == "" || s.Snowflake.Account == "" || s.Snowflake.User == "" {
		return settings{}, errors.New("SNOWFLAKE_KEY_FILE, SNOWFLAKE_ACCOUNT and SNOWFLAKE_USER are needed")
	}
	return s, nil
}

// The context bounds the wait for the first key, which the sidecar may still have to fetch. It does
// not bound the pool's life.
func Example_environment() {
	s, err := settingsFromEnvironment()
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	db, err := snowkey.Open(ctx, s.KeyFile, s.Snowflake)
	cancel()
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
}

// Close comes last: requests that are under way still need the pool. It waits until every session is
// logged out.
func Example_shutdown() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	db, err := snowkey.Open(ctx, "/run/snowflake/rsa_key.der", gosnowflake.Config{Account: "myorg-myaccount", User: "ETL"})
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

// A program is ready when Snowflake answers it. A key that is not accepted yet does not make it
// unready, since the serving key goes on serving, but whoever looks should see it.
func ExampleConnector_Stats() {
	connector, err := snowkey.NewConnector(context.Background(), "/run/snowflake/rsa_key.der",
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
	db, err := snowkey.Open(context.Background(), "/run/snowflake/rsa_key.der",
		gosnowflake.Config{Account: "myorg-myaccount", User: "ETL"},
		snowkey.WithEvents(func(e snowkey.Event) {
			switch e.Kind {
			case snowkey.Adopted:
				log.Printf("%s serves, %d connections were ready after %v", e.Fingerprint, e.Connections, e.Took)
			case snowkey.Refused, snowkey.Failed:
				log.Printf("%s is tried again: %v", e.Fingerprint, e.Err)
			}
		}))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
}
