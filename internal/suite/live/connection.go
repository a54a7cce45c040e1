package main

import (
	"cmp"
	"context"
	"crypto/rsa"
	"database/sql"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/snowflakedb/gosnowflake/v2"
	"github.com/youmark/pkcs8"

	"github.com/snowkey/snowkey/internal/identity"
	"github.com/snowkey/snowkey/shared/keyfile"
)

// A connection is what connections.toml says about the administrator: where Snowflake is, and how to log in. The names are
// those of the snow CLI and the Python connector.
type connection struct {
	Account        string `toml:"account"`
	User           string `toml:"user"`
	Role           string `toml:"role"`
	Warehouse      string `toml:"warehouse"`
	Host           string `toml:"host"`
	Port           any    `toml:"port"` // a number or a string
	Protocol       string `toml:"protocol"`
	Authenticator  string `toml:"authenticator"`
	Password       string `toml:"password"`
	Token          string `toml:"token"`
	PrivateKeyFile string `toml:"private_key_file"`
	PrivateKeyPath string `toml:"private_key_path"`
}

// String keeps password and token out of every message.
func (c connection) String() string { return "connection to " + c.Account }

// GoString does, too.
func (c connection) GoString() string { return c.String() }

func readConnection(home, name string) (connection, error) {
	if home == "" {
		user, err := os.UserHomeDir()
		if err != nil {
			return connection{}, err
		}
		home = filepath.Join(user, ".snowflake")
	}
	path := filepath.Join(home, "connections.toml")
	var all map[string]connection
	_, err := toml.DecodeFile(path, &all)
	// The text of a syntax error repeats a part of the line, which may be a password.
	if syntax := (toml.ParseError{}); errors.As(err, &syntax) {
		return connection{}, fmt.Errorf("%s: line %d is not TOML", path, syntax.Position.Line)
	}
	if err != nil {
		return connection{}, fmt.Errorf("%s: %w; SNOWFLAKE_HOME names another directory", path, err)
	}
	c, ok := all[name]
	if !ok || c.Account == "" {
		return connection{}, fmt.Errorf("%s has no connection %s with an account", path, name)
	}
	return c, nil
}

// isEmulated reports whether the connection leads to an emulator of Snowflake.
func (c connection) isEmulated() bool {
	return c.Host != "" && !identity.IsSnowflakeHost(c.Host)
}

// environ has the variables by which the sidecar and the consumer find the same Snowflake.
func (c connection) environ() []string {
	environ := []string{"SNOWFLAKE_ACCOUNT=" + c.Account}
	for name, value := range map[string]string{"HOST": c.Host, "PORT": c.port(), "PROTOCOL": c.Protocol} {
		if value != "" {
			environ = append(environ, "SNOWFLAKE_"+name+"="+value)
		}
	}
	return environ
}

// url returns Snowflake's base URL.
func (c connection) url(account identity.Account) string {
	protocol, host := cmp.Or(c.Protocol, "https"), cmp.Or(c.Host, account.Host())
	if port := c.port(); port != "" {
		host = net.JoinHostPort(host, port)
	}
	return protocol + "://" + host
}

func (c connection) port() string {
	if c.Port == nil {
		return ""
	}
	return fmt.Sprint(c.Port)
}

// config returns a key-pair config for a user.
func (c connection) config(user string) gosnowflake.Config {
	port, _ := strconv.Atoi(c.port())
	return gosnowflake.Config{
		Account: c.Account, Host: c.Host, Port: port, Protocol: c.Protocol, User: user,
		Authenticator: gosnowflake.AuthTypeJwt,
	}
}

const loginTimeout = time.Minute

var authenticators = map[string]gosnowflake.AuthType{
	"":                          gosnowflake.AuthTypeSnowflake,
	"snowflake":                 gosnowflake.AuthTypeSnowflake,
	"snowflake_jwt":             gosnowflake.AuthTypeJwt,
	"externalbrowser":           gosnowflake.AuthTypeExternalBrowser,
	"oauth":                     gosnowflake.AuthTypeOAuth,
	"programmatic_access_token": gosnowflake.AuthTypePat,
	"username_password_mfa":     gosnowflake.AuthTypeUsernamePasswordMFA,
}

// administrator is the config of the connection's own user.
func (c connection) administrator() (gosnowflake.Config, error) {
	config := c.config(c.User)
	config.Role, config.Warehouse, config.Password, config.Token = c.Role, c.Warehouse, c.Password, c.Token
	authenticator, ok := authenticators[strings.ToLower(c.Authenticator)]
	if !ok {
		return config, fmt.Errorf("the authenticator %s is not one that the trial knows; it knows %s", c.Authenticator,
			strings.Join(slices.Sorted(maps.Keys(authenticators))[1:], ", "))
	}
	config.Authenticator = authenticator
	if authenticator != gosnowflake.AuthTypeJwt {
		return config, nil
	}
	var err error
	config.PrivateKey, err = readPrivateKey(cmp.Or(c.PrivateKeyFile, c.PrivateKeyPath))
	return config, err
}

// readPrivateKey reads the administrator's key, which may be encrypted with PRIVATE_KEY_PASSPHRASE.
func readPrivateKey(path string) (*rsa.PrivateKey, error) {
	key, err := keyfile.Read(path)
	if err == nil {
		return key.RSA(), nil
	}
	passphrase := os.Getenv("PRIVATE_KEY_PASSPHRASE")
	if !errors.Is(err, keyfile.ErrEncrypted) || passphrase == "" {
		return nil, fmt.Errorf("%w; the passphrase of an encrypted key is taken from PRIVATE_KEY_PASSPHRASE", err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s is not PEM", path)
	}
	private, err := pkcs8.ParsePKCS8PrivateKeyRSA(block.Bytes, []byte(passphrase))
	if err != nil {
		return nil, fmt.Errorf("%s: PRIVATE_KEY_PASSPHRASE does not open it: %w", path, err)
	}
	return private, nil
}

// open logs in as the administrator.
func (c connection) open(ctx context.Context) (*sql.DB, error) {
	config, err := c.administrator()
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(gosnowflake.NewConnector(gosnowflake.SnowflakeDriver{}, config))
	db.SetMaxOpenConns(1) // so that a browser login is needed only once
	if err := ping(ctx, db); err != nil {
		return nil, errors.Join(fmt.Errorf("the administrator cannot log in: %w", err), db.Close())
	}
	return db, nil
}

// ping logs in, unless that is done already.
func ping(ctx context.Context, db *sql.DB) error {
	ctx, cancel := context.WithTimeout(ctx, 2*loginTimeout)
	defer cancel()
	return db.PingContext(ctx)
}

// rows returns what a statement answers, a map for each row, with the names of columns in lower case.
func rows(ctx context.Context, db *sql.DB, statement string) ([]map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	result, err := db.QueryContext(ctx, statement)
	if err != nil {
		return nil, err
	}
	defer result.Close()
	columns, err := result.Columns()
	if err != nil {
		return nil, err
	}
	var all []map[string]string
	for result.Next() {
		cells := make([]sql.NullString, len(columns))
		targets := make([]any, len(columns))
		for i := range cells {
			targets[i] = &cells[i]
		}
		if err := result.Scan(targets...); err != nil {
			return nil, err
		}
		row := map[string]string{}
		for i, column := range columns {
			row[strings.ToLower(column)] = cells[i].String
		}
		all = append(all, row)
	}
	return all, result.Err()
}
