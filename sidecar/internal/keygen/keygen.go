// Package keygen makes a key pair for Snowflake's key-pair authentication, and stores it encrypted in files or in
// Parameter Store.
//
// It never overwrites a file, never replaces a stored passphrase, never writes a private key unencrypted, and never
// prints anything but the public half.
package keygen

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

// Run makes a key and stores it as the settings say. It prints the public half to out, and to progress what it wrote
// where.
func Run(ctx context.Context, c *config.KeygenConfig, calls ssm.Options, out, progress io.Writer) error {
	files := newFiles(c)
	if err := files.checkAbsent(); err != nil {
		return err
	}
	var store *store
	if c.Put {
		var err error
		if store, err = openStore(ctx, c, calls); err != nil {
			return err
		}
	}
	passphrase, err := choosePassphrase(ctx, c, store)
	if err != nil {
		return err
	}
	defer passphrase.Clear()
	bits := cmp.Or(c.Bits, DefaultBits)
	key, err := Generate(bits)
	if err != nil {
		return err
	}
	encrypted, err := Encrypt(key, passphrase)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return errors.New("stopped; nothing was made: run it again")
	}
	if err := files.write(encrypted, PublicPEM(key), passphrase); err != nil {
		return err
	}
	if store != nil {
		var maybeStored bool
		maybeStored, err = store.put(ctx, secret.New(encrypted), passphrase, progress)
		if !maybeStored { // so that the same command can be run again, which makes another key
			return errors.Join(err, remove(files.paths()))
		}
	}
	files.describe(progress, bits)
	if printErr := announce(out, key, c.User); printErr != nil {
		return errors.Join(err, notPrinted(c, files, printErr))
	}
	return err
}

// announce prints what an administrator of Snowflake needs, all of it public.
func announce(w io.Writer, key *keyfile.Key, login snowflake.Login) error {
	name, err := snowflake.ParseName(string(login))
	if err != nil {
		return err
	}
	statement := snowflake.SetKey(name, snowflake.Slot{Number: 1}, PublicKey(key))
	note := "-- If SHOW USERS shows another name for this login name, use that name\n"
	if login == "" {
		// As SQL this placeholder is an error: pasted unchanged it changes nothing.
		statement, note = strings.Replace(statement, `""`, "<user>", 1), "-- Replace <user>, or set SNOWFLAKE_USER\n"
	}
	_, err = fmt.Fprintf(w, "fingerprint: %s\n\n"+
		"-- If DESC USER shows a fingerprint in RSA_PUBLIC_KEY_FP, that slot is in use: set RSA_PUBLIC_KEY_2 instead\n%s%s;\n",
		key.Fingerprint(), note, statement)
	return err
}

// notPrinted says where to find the public half of a key that is stored.
func notPrinted(c *config.KeygenConfig, files files, err error) error {
	advice := "it is in " + files.public
	if files.public == "" {
		advice = "get it from the private one: aws ssm get-parameter --with-decryption --name " + c.KeyParameter +
			" --query Parameter.Value --output text | openssl pkey -pubout"
	}
	return fmt.Errorf("the key is made, and its public half could not be printed: %w; %s", err, advice)
}
