package keyfile_test

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// Read the key for one login. The fingerprint may be logged; the key prints as its fingerprint, too.
func Example() {
	key, err := keyfile.Read("/run/snowflake/rsa_key.der")
	if err != nil {
		log.Fatal(err)
	}
	log.Print("logging in with ", key)
	_ = key.RSA() // an *rsa.PrivateKey, for the token of the login
}

// The error says whether it is worth waiting.
func ExampleRead() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	_, err = keyfile.Read(filepath.Join(dir, keyfile.DER.FileName()))
	switch {
	case err == nil:
		fmt.Println("a valid key")
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, keyfile.ErrNotServed):
		fmt.Println("no key yet: try again")
	case errors.Is(err, fs.ErrPermission):
		fmt.Println("run as a user who may read the key")
	default: // e.g. keyfile.ErrNotKey
		fmt.Println("not a valid key:", err)
	}
	// Output: no key yet: try again
}

func ExampleParse() {
	_, err := keyfile.Parse([]byte("arn:aws:ssm:eu-west-1:123456789012:parameter/app/key"))
	fmt.Println(errors.Is(err, keyfile.ErrNotKey))
	fmt.Println(err)
	// Output:
	// true
	// not a private key in a supported form: it names a place where a key may be
}

func ExampleFormat_Encode() {
	private, err := rsa.GenerateKey(rand.Reader, keyfile.MinBits)
	if err != nil {
		log.Fatal(err)
	}
	key, err := keyfile.FromRSA(private)
	if err != nil {
		log.Fatal(err)
	}
	for _, format := range keyfile.Formats {
		content := format.Encode(key)
		same, err := keyfile.Parse(content)
		fmt.Println(format.FileName(), same.Equal(key), err)
		clear(content)
	}
	// Output:
	// rsa_key.der true <nil>
	// rsa_key.pem true <nil>
	// rsa_key.b64 true <nil>
	// rsa_key.pem.b64 true <nil>
}

// A status tells which key is published, and since when refreshes fail.
func ExampleParseStatus() {
	status, err := keyfile.ParseStatus([]byte(`{
		"schema": 1,
		"fingerprint": "SHA256:3fh5rJ0rGJ1XFGM6E1WvPS3XHbWvOmhrGRhcxNB6nMI=",
		"checked_at": "2026-03-01T12:00:00Z",
		"filesystem": "tmpfs",
		"last_error": {"class": "network", "at": "2026-03-01T12:10:00Z", "since": "2026-03-01T12:05:00Z"}
	}`))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(status.Fingerprint)
	if last := status.LastError; last != nil {
		fmt.Println(last.Class, "since", last.Since.Format(time.Kitchen))
	}
	// Output:
	// SHA256:3fh5rJ0rGJ1XFGM6E1WvPS3XHbWvOmhrGRhcxNB6nMI=
	// network since 12:05PM
}
