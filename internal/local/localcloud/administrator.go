package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/youmark/pkcs8"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/local/localssm"
	"github.com/snowkey/snowkey/shared/keyfile"
)

// An administrator owns the user's key in both places, and rotates it as Snowflake advises: the new
// public key takes the slot of the older of two, so that the key in use goes on being accepted.
type administrator struct {
	ssm          *localssm.Server
	snowflake    *localsnowflake.Server
	user         string
	keyParameter string // none: there is nothing to rotate
	passphrase   string
	slot         int // for the next key
}

// newAdministrator makes the first key.
func newAdministrator(o options, ssm *localssm.Server, snowflake *localsnowflake.Server) (*administrator, error) {
	a := &administrator{
		ssm: ssm, snowflake: snowflake, user: o.user, keyParameter: o.keyParameter, passphrase: rand.Text(), slot: 1,
	}
	if a.keyParameter == "" {
		return a, nil
	}
	if o.passphraseParameter == "" {
		return nil, errors.New("--key-parameter needs --passphrase-parameter: the key is encrypted")
	}
	ssm.Put(o.passphraseParameter, a.passphrase)
	return a, a.rotate()
}

func (a *administrator) rotate() error {
	private, err := rsa.GenerateKey(rand.Reader, keyfile.MinBits)
	if err != nil {
		return err
	}
	encrypted, err := pkcs8.MarshalPrivateKey(private, []byte(a.passphrase), nil)
	if err != nil {
		return err
	}
	fingerprint, err := keyfile.Fingerprint(&private.PublicKey)
	if err != nil {
		return err
	}
	a.snowflake.SetPublicKey(a.user, a.slot, &private.PublicKey)
	text := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: encrypted})
	version := a.ssm.Put(a.keyParameter, string(text))
	fmt.Printf("%s version %d is %s\n", a.keyParameter, version, fingerprint)
	a.slot = 3 - a.slot
	return nil
}

// rotateAt rotates at every signal, until ctx ends.
func (a *administrator) rotateAt(ctx context.Context, signals <-chan os.Signal) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-signals:
		}
		if a.keyParameter == "" {
			fmt.Println("nothing to rotate without --key-parameter")
			continue
		}
		if err := a.rotate(); err != nil {
			return err
		}
	}
}
