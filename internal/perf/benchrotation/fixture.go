package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/shared/keywatch"
	"github.com/snowkey/snowkey/shared/snowkey"
)

const user = "BENCH"

// A fixture is a Snowflake, a key file, and a pool under load.
type fixture struct {
	setup
	snowflake *localsnowflake.Server
	cfg       gosnowflake.Config
	path      string
	serving   func() string // fingerprint of the pool's key for new logins
}

func silenceDriver() { gosnowflake.GetLogger().SetOutput(io.Discard) }

func newFixture(s setup) (w *fixture, stop func(), err error) {
	dir, err := os.MkdirTemp("", "benchrotation-")
	if err != nil {
		return nil, nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute}
	w = &fixture{setup: s, snowflake: localsnowflake.New(), path: filepath.Join(dir, keyfile.DER.FileName())}
	server.Handler = w.snowflake
	go func() { _ = server.Serve(listener) }()
	w.snowflake.CreateUser(user)
	w.snowflake.SetQueryLatency(s.query)
	w.assign(1, 0)
	w.cfg = gosnowflake.Config{
		Account: "LOCAL", User: user, Protocol: "http", Host: "127.0.0.1", Port: listener.Addr().(*net.TCPAddr).Port,
	}
	return w, func() { _ = server.Close(); _ = os.RemoveAll(dir) }, w.publish(keyfile.DER.Encode(testkey.Key(0)))
}

func (w *fixture) assign(slot, n int) {
	w.snowflake.SetPublicKey(user, slot, &testkey.Key(n).RSA().PublicKey)
}

func (w *fixture) publish(content []byte) error {
	temp := w.path + ".temp"
	if err := os.WriteFile(temp, content, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, w.path)
}

func (w *fixture) publishKey(n int) error { return w.publish(keyfile.DER.Encode(testkey.Key(n))) }

// adopted waits until new logins use the key, for as long as a rotation would wait for it.
func (w *fixture) adopted(n int, limit time.Duration) {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if w.serving() == testkey.Key(n).Fingerprint() {
			return
		}
	}
}

// ourPool is the pool that is on trial.
func ourPool(w *fixture) (*sql.DB, error) {
	c, err := snowkey.NewConnector(context.Background(), w.path, w.cfg, snowkey.WithJitter(0)) // it would only delay the rotation
	if err != nil {
		return nil, err
	}
	w.serving = func() string { return c.Stats().ServingFingerprint }
	return sql.OpenDB(c), nil
}

// plainPool is what a team writes without it: new logins use the newest key in the file, and connections
// of an older one leave. Even the watching is borrowed from here, so that the pools differ in nothing else.
func plainPool(w *fixture) (*sql.DB, error) {
	watch, err := keywatch.New(context.Background(), w.path)
	if err != nil {
		return nil, err
	}
	p := &plain{cfg: w.cfg, watch: watch}
	w.serving = p.fingerprint
	return sql.OpenDB(p), nil
}

type plain struct {
	cfg   gosnowflake.Config
	watch *keywatch.Watcher
}

func (p *plain) fingerprint() string { return p.watch.Key().Fingerprint() }

func (p *plain) Driver() driver.Driver { return gosnowflake.SnowflakeDriver{} }

// Close is called by the pool's Close.
func (p *plain) Close() error { //nolint:unparam // io.Closer
	p.watch.Close()
	return nil
}

func (p *plain) Connect(ctx context.Context) (driver.Conn, error) {
	key := p.watch.Key()
	cfg := p.cfg
	cfg.Authenticator = gosnowflake.AuthTypeJwt
	cfg.PrivateKey = key.RSA()
	c, err := gosnowflake.NewConnector(gosnowflake.SnowflakeDriver{}, cfg).Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &bounded{c.(plainConn), p.fingerprint, key.Fingerprint()}, nil
}

// bounded leaves the pool when the key was swapped, or the plain pool would never use the new one.
type bounded struct {
	plainConn
	current func() string
	own     string
}

type plainConn interface {
	driver.Conn
	driver.QueryerContext
	driver.ExecerContext
	driver.ConnBeginTx
	driver.NamedValueChecker
}

func (b *bounded) IsValid() bool { return b.own == b.current() }

func (b *bounded) ResetSession(context.Context) error {
	if !b.IsValid() {
		return driver.ErrBadConn
	}
	return nil
}
