// Command bothdrivers is a program that contains gosnowflake 1 and 2, like one that uses snowkey and
// golang-migrate. Both drivers register the name "snowflake", and the second one panics. The tests of
// internal/suite/wrappers start it with and without the environment variables that prevent that.
//
//	bothdrivers registered            prints the package of the driver "snowflake"
//	bothdrivers query HOST PORT FILE  queries through snowkey and through gosnowflake 1, with the key in FILE
//	bothdrivers migrate NAME          runs migrations through snowkey; NAME is the data source name
//
// It never prints a key, and nothing but tests runs it.
package main

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/database/snowflake"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	gosnowflake1 "github.com/snowflakedb/gosnowflake"
	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/shared/snowkey"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bothdrivers:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	switch {
	case slices.Equal(args, []string{"registered"}):
		return registered()
	case len(args) == 4 && args[0] == "query":
		port, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		return errors.Join(querySnowkey(ctx, args[1], port, args[3]), queryGosnowflake1(ctx, args[1], port, args[3]))
	case len(args) == 2 && args[0] == "migrate":
		return runMigrations(args[1])
	}
	return errors.New("want registered, query HOST PORT FILE, or migrate NAME")
}

// registered prints the package of the driver that has the name "snowflake".
func registered() error {
	if !slices.Contains(sql.Drivers(), "snowflake") {
		fmt.Println("none")
		return nil
	}
	db, err := sql.Open("snowflake", "user:password@account/database")
	if err != nil {
		return err
	}
	defer db.Close()
	driver := reflect.TypeOf(db.Driver())
	if driver.Kind() == reflect.Pointer {
		driver = driver.Elem()
	}
	fmt.Println(driver.PkgPath())
	return nil
}

func querySnowkey(ctx context.Context, host string, port int, file string) error {
	db, err := snowkey.Open(ctx, file, gosnowflake.Config{Account: "LOCAL", User: "ETL", Protocol: "http", Host: host, Port: port})
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, "SELECT 'snowkey'")
	return errors.Join(err, db.Close())
}

// queryGosnowflake1 registers gosnowflake 1 under a name of its own, which works whether or not the driver has
// registered itself.
func queryGosnowflake1(ctx context.Context, host string, port int, file string) error {
	key, err := keyfile.Read(file)
	if err != nil {
		return err
	}
	name, err := gosnowflake1.DSN(&gosnowflake1.Config{
		Account: "LOCAL", User: "ETL", Protocol: "http", Host: host, Port: port,
		Authenticator: gosnowflake1.AuthTypeJwt, PrivateKey: key.RSA(),
	})
	if err != nil {
		return err
	}
	sql.Register("snowflake1", gosnowflake1.SnowflakeDriver{})
	db, err := sql.Open("snowflake1", name)
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, "SELECT 'gosnowflake 1'")
	return errors.Join(err, db.Close())
}

//go:embed migrations
var migrations embed.FS

// runMigrations gives golang-migrate a sql.DB of snowkey, and prints the version that it reached.
func runMigrations(name string) error {
	db, err := sql.Open("snowkey", name)
	if err != nil {
		return err
	}
	target, err := snowflake.WithInstance(db, &snowflake.Config{})
	if err != nil {
		return errors.Join(err, db.Close())
	}
	source, err := iofs.New(migrations, "migrations")
	if err != nil {
		return errors.Join(err, target.Close())
	}
	m, err := migrate.NewWithInstance("iofs", source, "snowflake", target)
	if err != nil {
		return errors.Join(err, target.Close())
	}
	err = m.Up()
	version, dirty, versionErr := m.Version()
	fmt.Println("version", version, "dirty", dirty)
	sourceErr, targetErr := m.Close()
	return errors.Join(err, versionErr, sourceErr, targetErr)
}
