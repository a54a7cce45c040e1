// Command localcloud is AWS's Parameter Store and a Snowflake account in one process, for the demo, docker compose, and
// trials without either account.
//
// It prints where the two listen, one per line: "ssm URL" and "snowflake URL". With -key-parameter it also is the
// administrator of both: it makes the user's first key, and another one at every SIGHUP.
//
// With -sql-engine, statements go to a SQL engine such as fakesnow, except those about users, roles and the session
// itself. The engine never gets the credentials that clients log in with.
//
// It never talks to AWS or Snowflake, and is no place for a real key.
package main

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/local/localssm"
)

func main() {
	var o options
	flag.StringVar(&o.ssm, "ssm", "127.0.0.1:4566", "address of Parameter Store")
	flag.StringVar(&o.snowflake, "snowflake", "127.0.0.1:8085", "address of Snowflake")
	flag.StringVar(&o.account, "account", "LOCAL", "name of the Snowflake account")
	flag.StringVar(&o.user, "user", "DEMO", "name of a Snowflake user to create")
	flag.StringVar(&o.roles, "roles", "", "the user's roles beside PUBLIC, with commas between them; the first one is its default")
	flag.StringVar(&o.publicKey, "public-key", "", "PEM file with the user's first public key")
	flag.StringVar(&o.keyParameter, "key-parameter", "", "name of a parameter for the user's key, which is made now and rotated at SIGHUP")
	flag.StringVar(&o.passphraseParameter, "passphrase-parameter", "", "name of a parameter for that key's passphrase")
	flag.StringVar(&o.kmsKey, "kms-key", "", "alias of a KMS key to create, such as alias/app; alias/aws/ssm is always there")
	flag.DurationVar(&o.loginLatency, "login-latency", 0, "how much longer a login takes")
	flag.DurationVar(&o.queryLatency, "query-latency", 0, "how much longer a statement takes")
	flag.StringVar(&o.sqlEngine, "sql-engine", "", "URL of a SQL engine that executes statements, such as fakesnow; none: a handful are understood")
	flag.DurationVar(&o.sqlTimeout, "sql-timeout", 10*time.Minute, "how long a statement may take in the SQL engine")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "localcloud:", err)
		os.Exit(1)
	}
}

type options struct {
	ssm, snowflake                    string
	account, user, roles, publicKey   string
	keyParameter, passphraseParameter string
	kmsKey                            string
	loginLatency, queryLatency        time.Duration
	sqlEngine                         string
	sqlTimeout                        time.Duration
}

func run(o options) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ssm, err := newSSM(o)
	if err != nil {
		return err
	}
	snowflake, err := newSnowflake(o)
	if err != nil {
		return err
	}
	defer snowflake.Close()
	snowflake.CreateUser(o.user)
	if o.roles != "" {
		snowflake.SetRoles(o.user, strings.Split(o.roles, ",")...)
	}
	snowflake.SetLoginLatency(o.loginLatency)
	snowflake.SetQueryLatency(o.queryLatency)
	if o.publicKey != "" {
		key, err := readPublicKey(o.publicKey)
		if err != nil {
			return fmt.Errorf("--public-key: %w", err)
		}
		snowflake.SetPublicKey(o.user, 1, key)
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	admin, err := newAdministrator(o, ssm, snowflake)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var serving sync.WaitGroup
	defer serving.Wait()
	for _, s := range []struct {
		name, addr string
		handler    http.Handler
	}{
		{"ssm", o.ssm, ssm},
		{"snowflake", o.snowflake, snowflake},
	} {
		listener, err := net.Listen("tcp", s.addr)
		if err != nil {
			cancel(nil)
			return err
		}
		fmt.Printf("%s http://%s\n", s.name, listener.Addr())
		serving.Go(func() { cancel(serve(ctx, listener, s.handler)) })
	}
	if err := admin.rotateAt(ctx, hangups); err != nil {
		cancel(err)
	}
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func newSSM(o options) (*localssm.Server, error) {
	ssm := localssm.New()
	if o.kmsKey == "" {
		return ssm, nil
	}
	if name, ok := strings.CutPrefix(o.kmsKey, "alias/"); !ok || name == "" || strings.HasPrefix(name, "aws/") {
		return nil, errors.New("-kms-key is no alias of a key of yours; write it like alias/app")
	}
	ssm.CreateKMSKey(o.kmsKey)
	return ssm, nil
}

func newSnowflake(o options) (*localsnowflake.Server, error) {
	settings := []localsnowflake.Option{localsnowflake.WithAccount(o.account)}
	if o.sqlEngine != "" {
		engine, err := url.Parse(strings.TrimSuffix(o.sqlEngine, "/"))
		if err != nil || (engine.Scheme != "http" && engine.Scheme != "https") || engine.Host == "" || *engine != (url.URL{Scheme: engine.Scheme, Host: engine.Host}) {
			return nil, errors.New("-sql-engine is no URL of a server; write it like http://127.0.0.1:8090")
		}
		if o.sqlTimeout <= 0 {
			return nil, errors.New("-sql-timeout has to be longer than 0; write it like 10m")
		}
		settings = append(settings, localsnowflake.WithEngine(engine, o.sqlTimeout))
	}
	return localsnowflake.New(settings...), nil
}

func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func readPublicKey(path string) (*rsa.PublicKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s is not PEM; make it with: openssl pkey -in KEY.p8 -pubout", path)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%s is not an RSA key", path)
	}
	if bits := key.N.BitLen(); bits < 2048 {
		return nil, fmt.Errorf("%s has %d bits, and Snowflake takes no key of fewer than 2048; make a longer one", path, bits)
	}
	return key, nil
}
