package snowkey

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"

	"github.com/snowflakedb/gosnowflake/v2"
)

func init() { sql.Register("snowkey", Driver{}) }

// keyFileParameter is the parameter of a data source name that has the path of the key file.
const keyFileParameter = "privateKeyFile"

// Driver is the database/sql driver "snowkey", for programs and tools that open a database by a data source name:
//
//	db, err := sql.Open("snowkey", "ETL@myorg-myaccount/MYDB/PUBLIC?warehouse=LOADING&privateKeyFile=/run/snowflake/rsa_key.pem")
//
// The name has the form of gosnowflake's, with the path of the key file in privateKeyFile, and without a password or a key.
// sql.Open returns [ErrInvalidConfig] for any other name.
//
// The first connection waits for the key as [Open] does, but for at most a minute. All options have their defaults: a
// program that wants others calls Open. The pool follows the key file while it has connections. Keep some of them idle
// ([sql.DB.SetMaxIdleConns]): after the last one has closed, the next one reads the file and logs in again.
//
// Driver is exported for wrappers around the driver; see the package's section on wrappers.
type Driver struct{}

// Open implements [driver.Driver]; database/sql calls OpenConnector.
func (d Driver) Open(name string) (driver.Conn, error) {
	connector, err := d.OpenConnector(name)
	if err != nil {
		return nil, err
	}
	return connector.Connect(context.Background())
}

// OpenConnector implements [driver.DriverContext]. It checks the name, and does not connect. Its error is an
// [ErrInvalidConfig] that quotes nothing of the name, which may hold a secret.
func (Driver) OpenConnector(name string) (driver.Connector, error) {
	path, cfg, err := parseName(name)
	if err != nil {
		return nil, kindError{fmt.Errorf("snowkey: data source name: %w", err), ErrInvalidConfig}
	}
	return &nameConnector{path: path, cfg: *cfg, opening: make(chan struct{}, 1)}, nil
}

// parseName splits a data source name into the path of the key file and the driver's configuration. Its
// errors quote nothing of the name, which may hold a secret.
func parseName(name string) (path string, cfg *gosnowflake.Config, err error) {
	user, _, found := strings.Cut(name, "@")
	if !found {
		return "", nil, errors.New("it has no user: write USER@ACCOUNT/DATABASE")
	}
	if strings.Contains(user, ":") {
		return "", nil, errors.New("it has a password: leave it out, as logins use the key in the file")
	}
	address, query, _ := strings.Cut(name, "?")
	var params []string
	authenticator := "authenticator=snowflake_jwt"
	for param := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(param, "=")
		switch plainParameter(key) {
		case "":
		case "privatekeyfile":
			if path, err = url.QueryUnescape(value); err != nil {
				return "", nil, fmt.Errorf("%s is not escaped as a URL's parameter", keyFileParameter)
			}
		case "privatekey":
			return "", nil, fmt.Errorf("it has a private key: give the key file's path in %s instead, and replace this key, as data source names end up in logs", keyFileParameter)
		case "password", "token", "passcode":
			return "", nil, errors.New("it has a password or token: leave it out, as logins use the key in the file")
		case "authenticator":
			authenticator = param
		default:
			params = append(params, param)
		}
	}
	if path == "" {
		return "", nil, fmt.Errorf("it has no %s: add &%s=/run/snowflake/rsa_key.pem", keyFileParameter, keyFileParameter)
	}
	cfg, err = gosnowflake.ParseDSN(address + "?" + strings.Join(append(params, authenticator), "&"))
	if err != nil {
		return "", nil, parseError(err)
	}
	return path, cfg, checkConfig(cfg)
}

// plainParameter returns a parameter's name without the differences in spelling that a mistake may have.
func plainParameter(name string) string {
	if unescaped, err := url.QueryUnescape(name); err == nil {
		name = unescaped
	}
	return strings.ToLower(strings.ReplaceAll(name, "_", ""))
}

// parseError returns the driver's error without its text, which quotes the name.
func parseError(err error) error {
	const form = "write USER@ACCOUNT/DATABASE/SCHEMA?warehouse=WAREHOUSE&" + keyFileParameter + "=PATH"
	if e, ok := errors.AsType[*gosnowflake.SnowflakeError](err); ok {
		return fmt.Errorf("gosnowflake refuses it with error %d: %s", e.Number, form)
	}
	return errors.New("gosnowflake refuses one of its parameters: " + form)
}

// A nameConnector opens a Connector for its first connection and closes it with the last. It does not rely on
// a method Close, which a wrapper may hide from database/sql.
type nameConnector struct {
	path    string
	cfg     gosnowflake.Config
	opening chan struct{} // held by the caller that makes the Connector

	mu        sync.Mutex
	connector *Connector
	uses      int // connections, and asynchronous statements
}

// Connect implements [driver.Connector].
func (n *nameConnector) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := n.acquire(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := c.Connect(ctx)
	if err != nil {
		if last := n.count(-1); last != nil {
			last.cancelLogins() // the caller does not wait for them any more
			_ = last.Close()
		}
		return nil, err
	}
	return conn, nil
}

// acquire returns the Connector and counts a connection of it. The first caller makes the Connector.
func (n *nameConnector) acquire(ctx context.Context) (*Connector, error) {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	select {
	case n.opening <- struct{}{}:
		defer func() { <-n.opening }()
	case <-ctx.Done():
		return nil, fmt.Errorf("snowkey: waiting for the first login: %w", ctx.Err())
	}
	n.mu.Lock()
	c := n.connector
	if c != nil {
		n.uses++
	}
	n.mu.Unlock()
	if c != nil {
		return c, nil
	}
	c, err := NewConnector(ctx, n.path, n.cfg)
	if err != nil {
		return nil, err
	}
	c.references = func(change int) {
		if last := n.count(change); last != nil {
			_ = last.Close()
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.connector, n.uses = c, 1
	return c, nil
}

// count changes the number of uses. It returns the Connector if that was the last one: it has to be closed.
func (n *nameConnector) count(change int) (last *Connector) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.uses += change
	if n.uses == 0 {
		last, n.connector = n.connector, nil
	}
	return last
}

// Driver implements [driver.Connector].
func (n *nameConnector) Driver() driver.Driver { return Driver{} }
