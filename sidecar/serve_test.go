package main

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// serving publishes no key file.
func serving(t *testing.T) *task {
	t.Helper()
	k := newTask(t)
	k.env["SNOWKEY_FORMATS"] = "none"
	k.env["SNOWKEY_SERVE"] = "der,pem"
	return k
}

// read gives what a socket gives.
func (k *task) read(f keyfile.Format) []byte {
	k.t.Helper()
	conn, err := net.Dial("unix", filepath.Join(k.dir, f.SocketName()))
	k.must(err)
	defer conn.Close()
	text, err := io.ReadAll(conn)
	k.must(err)
	return text
}

// serves reports whether the socket gives the key of this fingerprint.
func (k *task) serves(f keyfile.Format, want string) bool {
	key, err := keyfile.Read(filepath.Join(k.dir, f.SocketName()))
	return err == nil && key.Fingerprint() == want
}

func TestServe_WritesNoKey(t *testing.T) {
	t.Parallel()
	k := serving(t)
	p := k.run()
	key, err := keyfile.Parse(k.read(keyfile.PEM))
	k.must(err)
	if string(keyfile.PEM.Encode(key)) != string(k.read(keyfile.PEM)) || string(keyfile.DER.Encode(key)) != string(k.read(keyfile.DER)) {
		t.Error("the sockets do not give the bytes of the files")
	}
	k.do("healthcheck").want(exitDone)

	k.ssm.Put(keyParameter, content(t, nextKey))
	p.refresh()
	if !k.serves(keyfile.PEM, fingerprint(t, nextFingerprint)) {
		t.Error("the new key is not served")
	}
	if got := p.count("a user read the key for the first time"); got != 1 {
		t.Errorf("%d lines about one user", got)
	}
	for name, file := range k.snapshot() {
		if _, err := keyfile.Parse([]byte(file.content)); err == nil {
			t.Errorf("%s holds a key", name)
		}
	}
	var status keyfile.Status
	k.must(json.Unmarshal([]byte(content(t, filepath.Join(k.dir, keyfile.StatusName))), &status))
	if len(status.Formats) != 0 || len(status.Serve) != 2 {
		t.Errorf("status %+v", status)
	}

	p.end(syscall.SIGTERM)
	p.want(exitDone)
	for _, f := range keyfile.Formats {
		if _, err := os.Lstat(filepath.Join(k.dir, f.SocketName())); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", f.SocketName(), err)
		}
	}
	k.do("healthcheck").want(exitFailed, "rsa_key.der.sock")
}

// With files, too; and without them again, whose files then go.
func TestServe_BesideFiles(t *testing.T) {
	t.Parallel()
	k := serving(t)
	delete(k.env, "SNOWKEY_FORMATS")
	p := k.run()
	if string(k.read(keyfile.PEM)) != content(t, filepath.Join(k.dir, "rsa_key.pem")) {
		t.Error("the socket and the file differ")
	}
	p.signal(syscall.SIGKILL)
	<-p.Done()
	k.env["SNOWKEY_FORMATS"] = "none"
	p = k.start("run", onDemand)
	p.eventually("the key is served, and the files are gone", func() bool {
		_, err := os.Lstat(filepath.Join(k.dir, "rsa_key.pem"))
		return errors.Is(err, os.ErrNotExist) && k.serves(keyfile.DER, fingerprint(t, oldFingerprint))
	})
	p.signal(syscall.SIGKILL)
	<-p.Done()
	delete(k.env, "SNOWKEY_SERVE")
	k.env["SNOWKEY_FORMATS"] = "der"
	p = k.start("run", onDemand)
	p.eventually("the sockets are gone", func() bool {
		_, err := os.Lstat(filepath.Join(k.dir, keyfile.DER.SocketName()))
		return errors.Is(err, os.ErrNotExist)
	})
}

func TestServe_WrongSettings(t *testing.T) {
	t.Parallel()
	k := serving(t)
	k.do("once").want(exitUsage, "--serve", "use run or exec")
	k.env["SNOWKEY_SERVE"] = ""
	k.do("run").want(exitUsage, "--formats none publishes no key: add --serve")
	k.env["SNOWKEY_SERVE"] = "p8"
	k.do("run").want(exitUsage, "use one of der, ")
	k.env["SNOWKEY_SERVE"] = "pem"
	k.env["SNOWKEY_CONNECTIONS"] = "true"
	k.do("run").want(exitUsage, "--connections names the PEM file")
	delete(k.env, "SNOWKEY_CONNECTIONS")
	k.env["SNOWKEY_DIR"] = filepath.Join(k.dir, strings.Repeat("d", 100))
	k.must(os.Mkdir(k.env["SNOWKEY_DIR"], 0o700))
	k.do("exec", "--start-timeout=5s", "--", "/bin/true").want(exitFailed, "too long for a socket", "shorten --dir")
}

// CMD starts when the key is served.
func TestServe_Exec(t *testing.T) {
	t.Parallel()
	k := serving(t)
	k.do("exec", "--", "/bin/sh", "-c", `test -S "$SNOWKEY_DIR/rsa_key.der.sock" && ! test -e "$SNOWKEY_DIR/rsa_key.der"`).want(exitDone)
}

func TestServe_Doctor(t *testing.T) {
	t.Parallel()
	k := serving(t)
	k.do("doctor").want(exitDone, "warn  published key: none yet")
	p := k.run()
	k.do("doctor").want(exitDone, "ok    published key: "+fingerprint(t, oldFingerprint)+", the newest", "0440)")
	p.end(syscall.SIGKILL) // alive, it would set the mode again
	path := filepath.Join(k.dir, keyfile.PEM.SocketName())
	k.must(os.Chmod(path, 0o600))
	k.do("doctor").want(exitFailed, "rsa_key.pem.sock is", "and by --file-mode 0440 it has to be 0660", "published key: "+filepath.Join(k.dir, "rsa_key.der.sock")+": no key is served now")
	k.must(os.Remove(path))
	k.must(os.Mkdir(path, 0o700))
	k.do("doctor").want(exitFailed, path+" is not a socket", "fix: remove it")
}

func TestServe_SeveralKeys(t *testing.T) {
	t.Parallel()
	k := several(t, "etl", "report")
	k.env["SNOWKEY_FORMATS"], k.env["SNOWKEY_SERVE"] = "none", "pem"
	p := k.start("run", onDemand)
	served := func(name, want string) bool { return k.of(name).serves(keyfile.PEM, fingerprint(t, want)) }
	p.eventually("both", func() bool { return served("etl", oldFingerprint) && served("report", oldFingerprint) })
	k.ssm.Put("/report/key", content(t, nextKey))
	p.signal(syscall.SIGHUP)
	p.eventually("one is new", func() bool { return served("etl", oldFingerprint) && served("report", nextFingerprint) })
	k.do("healthcheck").want(exitDone)
	k.must(os.Remove(filepath.Join(k.dir, "etl", keyfile.StatusName)))
	k.do("healthcheck").want(exitFailed, "etl")
}

// A sidecar takes over from one that was killed. One that starts has no key while SSM gives none.
func TestServe_TwoSidecars(t *testing.T) {
	t.Parallel()
	k := serving(t)
	first, second := k.run(), k.run()
	k.ssm.Put(keyParameter, content(t, nextKey))
	second.refresh()
	if !k.serves(keyfile.DER, fingerprint(t, nextFingerprint)) {
		t.Error("the new key is not served")
	}
	second.end(syscall.SIGKILL)
	first.eventually("the other one fetches the new key, and serves it", func() bool { return k.serves(keyfile.DER, fingerprint(t, nextFingerprint)) })
	k.do("healthcheck").want(exitDone)
	first.end(syscall.SIGKILL)
	k.do("healthcheck").want(exitFailed, "no key is served now")
	k.ssm.DenyParameter(keyParameter)
	third := k.start("run", onDemand)
	third.eventually("it is refused", func() bool { return third.count("refresh failed") > 0 })
	k.do("healthcheck").want(exitFailed, "no key")
}

func TestServe_OnlyAcceptedKeys(t *testing.T) {
	t.Parallel()
	k, account := verified(t)
	k.env["SNOWKEY_FORMATS"], k.env["SNOWKEY_SERVE"] = "none", "der"
	p := k.run()
	k.ssm.Put(keyParameter, content(t, nextKey))
	p.signal(syscall.SIGHUP)
	p.eventually("Snowflake refuses the next one", func() bool { return p.count("refresh failed") > 0 })
	if !k.serves(keyfile.DER, fingerprint(t, oldFingerprint)) {
		t.Error("the accepted key is no longer served")
	}
	k.assign(account, 2, "testdata/next.pem")
	p.signal(syscall.SIGHUP)
	p.eventually("the next one is served", func() bool { return k.serves(keyfile.DER, fingerprint(t, nextFingerprint)) })
}
