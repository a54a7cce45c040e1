// Command consumer is an example of an application. It queries Snowflake's version at an interval, over a pool that follows
// the key file, and logs the fingerprint of the key that each query used.
//
// Copy it: of this project it needs only shared/snowkey.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/shared/snowkey"
)

func main() {
	interval := flag.Duration("interval", 5*time.Second, "time between the queries of a worker")
	workers := flag.Int("workers", 1, "queries at a time")
	wait := flag.Duration("wait", time.Minute, "how long to wait for the first key")
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stdout, nil))
	if err := run(log, *interval, *workers, *wait); err != nil {
		fmt.Fprintln(os.Stderr, "consumer:", err)
		os.Exit(1)
	}
}

func run(log *slog.Logger, interval time.Duration, workers int, wait time.Duration) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	cfg, err := configuration()
	if err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	db, err := snowkey.Open(waiting, env("SNOWFLAKE_PRIVATE_KEY_PATH", "/run/snowflake/rsa_key.pem"), cfg,
		snowkey.WithLogger(log), snowkey.WithQuietDriver())
	if err != nil {
		return err
	}
	defer db.Close()

	var queries, failures atomic.Int64
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for delay := time.Duration(0); sleep(ctx, delay); delay = interval {
				queries.Add(1)
				if err := query(ctx, db, log); err != nil && ctx.Err() == nil {
					failures.Add(1)
					log.Error("query failed", "error", err.Error())
				}
			}
		})
	}
	group.Wait()
	log.Info("stopped", "queries", queries.Load(), "failures", failures.Load())
	return nil
}

func query(ctx context.Context, db *sql.DB, log *slog.Logger) error {
	start := time.Now()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var version string
	if err := conn.QueryRowContext(ctx, "SELECT current_version()").Scan(&version); err != nil {
		return err
	}
	fingerprint, err := snowkey.Fingerprint(conn)
	if err != nil {
		return err
	}
	log.Info("answered", "version", version, "fingerprint", fingerprint, "took", time.Since(start).Round(time.Millisecond))
	return nil
}

// sleep waits for d. It reports false if ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return ctx.Err() == nil
	}
}

// configuration reads the environment variables that Snowflake's own tools read.
func configuration() (gosnowflake.Config, error) {
	cfg := gosnowflake.Config{
		Account:   os.Getenv("SNOWFLAKE_ACCOUNT"),
		User:      os.Getenv("SNOWFLAKE_USER"),
		Host:      os.Getenv("SNOWFLAKE_HOST"),
		Protocol:  os.Getenv("SNOWFLAKE_PROTOCOL"),
		Role:      os.Getenv("SNOWFLAKE_ROLE"),
		Warehouse: os.Getenv("SNOWFLAKE_WAREHOUSE"),
		Database:  os.Getenv("SNOWFLAKE_DATABASE"),
		Schema:    os.Getenv("SNOWFLAKE_SCHEMA"),
	}
	if cfg.Account == "" || cfg.User == "" {
		return cfg, errors.New("set SNOWFLAKE_ACCOUNT and SNOWFLAKE_USER")
	}
	if port := os.Getenv("SNOWFLAKE_PORT"); port != "" {
		n, err := strconv.Atoi(port)
		if err != nil {
			return cfg, fmt.Errorf("SNOWFLAKE_PORT=%q: write a number", port)
		}
		cfg.Port = n
	}
	return cfg, nil
}

func env(name, fallback string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return fallback
}
