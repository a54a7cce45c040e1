package snowkey_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
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

// The context bounds only the wait for the first key, which the sidecar may still have to fetch.
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

// Close the pool last, since requests in flight need it. Close waits until every session has logged out.
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

// A program is ready if Snowflake answers it. A candidate that Snowflake does not accept yet does not make it unready, since
// the serving key keeps serving, but the answer of the probe mentions it.
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
		fmt.Fprintln(w, "serving", stats.ServingFingerprint)
		if stats.CandidateErr != nil {
			fmt.Fprintln(w, "waiting for", stats.CandidateFingerprint, "because of", stats.CandidateErr)
		}
	})
}

// Events are for metrics and alerts.
func ExampleWithEvents() {
	db, err := snowkey.Open(context.Background(), "/run/snowflake/rsa_key.pem",
		gosnowflake.Config{Account: "myorg-myaccount", User: "ETL"},
		snowkey.WithEvents(func(e snowkey.Event) {
			switch e.Kind {
			case snowkey.KeyActivated:
				log.Printf("%s serves, %d sessions were ready after %v", e.Fingerprint, e.Sessions, e.Took)
			case snowkey.KeyRefused, snowkey.LoginFailed:
				log.Printf("%s is tried again: %v", e.Fingerprint, e.Err)
			}
		}))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
}

// The error says what was missing when ctx ended.
func ExampleOpen() {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	db, err := snowkey.Open(ctx, "/run/no-such-directory/rsa_key.pem", gosnowflake.Config{
		Account: "myorg-myaccount",
		User:    "ETL",
	})
	switch {
	case err == nil:
		defer db.Close()
		fmt.Println("Keep db for as long as the program runs.")
	case errors.Is(err, snowkey.ErrInvalidConfig):
		fmt.Println("correct the configuration:", err)
	case errors.Is(err, snowkey.ErrKeyRefused):
		fmt.Println("assign the public key to the user:", err)
	case errors.Is(err, fs.ErrNotExist):
		fmt.Println("there is no key yet: is the sidecar running?")
	default:
		fmt.Println("no valid key:", err)
	}
	// Output: there is no key yet: is the sidecar running?
}

// The driver "snowkey" takes the path of the key file in the data source name. sql.Open checks the name, and connects to
// nothing.
func ExampleDriver() {
	db, err := sql.Open("snowkey", "ETL@myorg-myaccount/MYDB/PUBLIC?warehouse=LOADING&privateKeyFile=/run/snowflake/rsa_key.pem")
	fmt.Println(err)
	defer db.Close()

	_, err = sql.Open("snowkey", "ETL:password@myorg-myaccount/MYDB")
	fmt.Println(errors.Is(err, snowkey.ErrInvalidConfig), err)
	// Output:
	// <nil>
	// true snowkey: data source name: it has a password: leave it out, as logins use the key in the file
}

// If Snowflake ends the session of a transaction, nothing of it is committed, and the caller may run it again. A COMMIT that
// fails may have taken place, so only the application can tell whether to run that transaction again.
func Example_transaction() {
	var db *sql.DB // of snowkey.Open
	ctx := context.Background()
	for {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			log.Fatal(err)
		}
		_, err = tx.ExecContext(ctx, "UPDATE accounts SET balance = balance - 10 WHERE id = 1")
		if err == nil {
			_, err = tx.ExecContext(ctx, "UPDATE accounts SET balance = balance + 10 WHERE id = 2")
		}
		if err == nil {
			log.Print("commit: ", tx.Commit())
			return
		}
		_ = tx.Rollback()
		if !errors.Is(err, snowkey.ErrSessionEnded) {
			log.Fatal(err)
		}
	}
}

// State that every session needs is set after each login. conn is the driver's connection.
func ExampleWithSessionInit() {
	setQuotedNames := func(ctx context.Context, conn driver.Conn) error {
		execer, ok := conn.(driver.ExecerContext)
		if !ok {
			return errors.New("the connection runs no statements")
		}
		_, err := execer.ExecContext(ctx, "ALTER SESSION SET QUOTED_IDENTIFIERS_IGNORE_CASE = TRUE", nil)
		return err
	}
	db, err := snowkey.Open(context.Background(), "/run/snowflake/rsa_key.pem",
		gosnowflake.Config{Account: "myorg-myaccount", User: "ETL"}, snowkey.WithSessionInit(setQuotedNames))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
}

// The fingerprint shows with which key a connection logged in, for instance in a rotation.
func ExampleFingerprint() {
	var db *sql.DB // of snowkey.Open
	conn, err := db.Conn(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fingerprint, err := snowkey.Fingerprint(conn)
	if err != nil {
		log.Print(err)
		return
	}
	fmt.Println(fingerprint)
}
