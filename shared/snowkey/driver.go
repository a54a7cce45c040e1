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

// keyFileParameter names the path of the key file in a data source name.
const keyFileParameter = "privateKeyFile"

// Driver is the database/sql driver "snowkey", for tools that want a data source name:
//
//	db, err := sql.Open("snowkey", "ETL@myorg-myaccount/MYDB/PUBLIC?warehouse=LOADING&privateKeyFile=/run/snowflake/rsa_key.der")
//
// The name is gosnowflake's own, without a password or a key, and with the path of the key file in
// privateKeyFile. The first connection waits for the key as [Open] does, for a minute at most. The options
// have their defaults; a program that wants others calls Open. The file is followed while there are
// connections, so that nothing is left when the last one closes.
type Driver struct{}

// Open implements [driver.Driver]; database/sql calls OpenConnector.
func (d Driver) Open(name string) (driver.Conn, error) {
	connector, err := d.OpenConnector(name)
	if err != nil {
		return nil, err
	}
	return connector.Connect(context.Background())
}

// OpenConnector implements [driver.DriverContext]. It checks the name and connects to nothing.
func (Driver) OpenConnector(name string) (driver.Connector, error) {
	path, cfg, err := parseName(name)
	if err != nil {
		return nil, fmt.Errorf("snowkey: data source name: %w", err)
	}
	return &nameConnector{path: path, cfg: *cfg, opening: make(chan struct{}, 1)}, nil
}

// parseName splits a data source name into the path of the key file and the driver's configuration. Its
// errors quote nothing of a name that may hold a secret.
func parseName(name string) (path string, cfg *gosnowflake.Config, err error) {
	if user, _, found := strings.Cut(name, "@"); found && strings.Contains(user, ":") {
		return "", nil, errors.New("it has a password: leave it out, as logins use the key in the file")
	}
	address, query, _ := strings.Cut(name, "?")
	var params []string
	authenticator := "authenticator=snowflake_jwt"
	for param := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(param, "=")
		switch key {
		case "":
		case keyFileParameter:
			if path, err = url.QueryUnescape(value); err != nil {
				return "", nil, fmt.Errorf("%s: %w", keyFileParameter, err)
			}
		case "privateKey":
			return "", nil, fmt.Errorf("it has a privateKey: give the key file's path in %s instead, and replace this key, as data source names end up in logs", keyFileParameter)
		case "password", "token":
			return "", nil, fmt.Errorf("it has a %s: leave it out, as logins use the key in the file", key)
		case "authenticator":
			authenticator = param
		default:
			params = append(params, param)
		}
	}
	if path == "" {
		return "", nil, fmt.Errorf("it has no %s: add &%s=/run/snowflake/rsa_key.der", keyFileParameter, keyFileParameter)
	}
	cfg, err = gosnowflake.ParseDSN(address + "?" + strings.Join(append(params, authenticator), "&"))
	if err != nil {
		return "", nil, err
	}
	return path, cfg, checkConfig(cfg)
}

// A nameConnector opens a Connector for its first connection and closes it with the last. It does not rely on
// a method Close, which a wrapper may hide from database/sql.
type nameConnector struct {
	path    string
	cfg     gosnowflake.Config
	opening chan struct{} // held by the caller that makes the Connector

	mu          sync.Mutex
	connector   *Connector
	connections int
}

// Connect implements [driver.Connector].
func (n *nameConnector) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := n.acquire(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := c.Connect(ctx)
	if err != nil {
		n.release()
		return nil, err
	}
	return conn, nil
}

// acquire returns the Connector, and counts a connection of it. The first caller makes it.
func (n *nameConnector) acquire(ctx context.Context) (*Connector, error) {
	select {
	case n.opening <- struct{}{}:
		defer func() { <-n.opening }()
	case <-ctx.Done():
		return nil, fmt.Errorf("snowkey: waiting for the first login: %w", ctx.Err())
	}
	n.mu.Lock()
	c := n.connector
	if c != nil {
		n.connections++
	}
	n.mu.Unlock()
	if c != nil {
		return c, nil
	}
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	c, err := NewConnector(ctx, n.path, n.cfg)
	if err != nil {
		return nil, err
	}
	c.released = n.release
	n.mu.Lock()
	defer n.mu.Unlock()
	n.connector, n.connections = c, 1
	return c, nil
}

// release counts a connection off, and closes the Connector with the last one.
func (n *nameConnector) release() {
	n.mu.Lock()
	n.connections--
	var last *Connector
	if n.connections == 0 {
		last, n.connector = n.connector, nil
	}
	n.mu.Unlock()
	if last != nil {
		_ = last.Close()
	}
}

// Driver implements [driver.Connector].
func (n *nameConnector) Driver() driver.Driver { return Driver{} }
