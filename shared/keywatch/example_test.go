package keywatch_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/shared/keywatch"
)

// Take the key from the Watcher at each login. ctx bounds the wait for the first key.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	w, err := keywatch.New(ctx, "/run/snowflake/rsa_key.der", keywatch.WithLogger(slog.Default()))
	cancel()
	if err != nil {
		log.Fatal(err)
	}
	defer w.Close()

	logIn := func(key *rsa.PrivateKey) { /* sign the token of a login */ }
	logIn(w.Key().RSA())
	for range w.Updated() { // or in a select
		logIn(w.Key().RSA())
	}
}

// The error says what was missing when ctx ended.
func ExampleNew() {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := keywatch.New(ctx, "/run/no-such-directory/rsa_key.der")
	fmt.Println("no file:", errors.Is(err, fs.ErrNotExist))
	fmt.Println("not a key:", errors.Is(err, keyfile.ErrNotKey))
	fmt.Println("in time:", !errors.Is(err, context.DeadlineExceeded))
	// Output:
	// no file: true
	// not a key: false
	// in time: false
}

// A file that is removed or damaged does not take the key away.
func ExampleWatcher_Err() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, keyfile.DER.FileName())
	publish := func() {
		private, err := rsa.GenerateKey(rand.Reader, keyfile.MinBits)
		if err != nil {
			panic(err)
		}
		key, err := keyfile.FromRSA(private)
		if err != nil {
			panic(err)
		}
		if err := os.WriteFile(path+".new", keyfile.DER.Encode(key), 0o600); err != nil {
			panic(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			panic(err)
		}
	}

	publish()
	w, err := keywatch.New(context.Background(), path, keywatch.WithPollInterval(10*time.Millisecond))
	if err != nil {
		panic(err)
	}
	defer w.Close()
	first := w.Key()

	if err := os.Remove(path); err != nil {
		panic(err)
	}
	for w.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	fmt.Println("file:", errors.Is(w.Err(), fs.ErrNotExist), "key kept:", w.Key() == first)

	publish()
	<-w.Updated()
	fmt.Println("file:", w.Err(), "new key:", !w.Key().Equal(first))
	// Output:
	// file: true key kept: true
	// file: <nil> new key: true
}
