package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/keypair"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
	"github.com/snowkey/snowkey/sidecar/internal/sqlapi"
)

// defaultKeyFile is where the key goes if nobody says where, nor that it goes to Parameter Store.
const defaultKeyFile = "rsa_key.p8"

// keygenCommand makes a key pair. It puts the private half into files and parameters that did not exist,
// encrypted, and only what is public on the terminal.
func keygenCommand(environ []string) *cobra.Command {
	var c config.KeygenConfig
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "make a key pair, say how to assign it, store it if asked to",
		Long: "keygen makes an RSA key, writes it encrypted into files or with --put into Parameter Store, and prints its public half with " +
			"the ALTER USER statement for SNOWFLAKE_USER.\n\n" + config.VariablesHelp(&c),
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := load(cmd, &c, environ); err != nil {
				return err
			}
			return keygen(cmd, &c)
		},
	}
	config.AddFlags(cmd.Flags(), &c)
	return cmd
}

func keygen(cmd *cobra.Command, c *config.KeygenConfig) error {
	outliveTerminal()
	ctx, say := cmd.Context(), cmd.ErrOrStderr()
	out := outputsOf(c)
	if err := out.free(); err != nil {
		return err
	}
	var store *keyStore
	if c.Put {
		var err error
		if store, err = openKeyStore(ctx, c); err != nil {
			return err
		}
	}
	passphrase, err := choosePassphrase(ctx, c, store)
	if err != nil {
		return err
	}
	defer passphrase.Clear()
	bits := cmp.Or(c.Bits, keypair.DefaultBits)
	key, err := keypair.Generate(bits)
	if err != nil {
		return err
	}
	encrypted, err := keypair.Encrypt(key, passphrase)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return errors.New("stopped; nothing was made")
	}
	if err := out.write(encrypted, keypair.PublicPEM(key), passphrase); err != nil {
		return err
	}
	if store != nil {
		var maybeStored bool
		maybeStored, err = store.put(ctx, secret.New(encrypted), passphrase, say)
		if !maybeStored { // so that the same command can be run again, which makes another key
			return errors.Join(err, remove(out.paths()))
		}
	}
	out.describe(say, bits)
	if printErr := announce(cmd.OutOrStdout(), key, c.User); printErr != nil {
		return errors.Join(err, unprinted(c, out, printErr))
	}
	return err
}

// unprinted is for a key that is there, and whose public half nobody has read.
func unprinted(c *config.KeygenConfig, out outputs, err error) error {
	do := "it is in " + out.public
	if out.public == "" {
		do = "get it from the private one: aws ssm get-parameter --with-decryption --name " + c.KeyParameter +
			" --query Parameter.Value --output text | openssl pkey -pubout"
	}
	return fmt.Errorf("the key is made, and its public half could not be printed: %w; %s", err, do)
}

// announce says what an administrator of Snowflake needs, all of it public.
func announce(w io.Writer, key *keyfile.Key, user string) error {
	// Nobody's name is like this, and as SQL it is an error: pasted unchanged it does nothing.
	user = cmp.Or(user, "<user>")
	statement := sqlapi.SetKey(user, sqlapi.Slot{Number: 1}, keypair.PublicKey(key))
	if user == "<user>" {
		statement = strings.Replace(statement, `"<user>"`, user, 1)
	}
	_, err := fmt.Fprintf(w, "public key: %s\nfingerprint: %s\n\n"+
		"-- RSA_PUBLIC_KEY_2 instead, if DESC USER shows a fingerprint in RSA_PUBLIC_KEY_FP: that key is in use\n%s;\n",
		keypair.PublicKey(key), key.Fingerprint(), statement)
	return err
}

// outputsOf gives the files that the settings ask for; "" is none.
func outputsOf(k *config.KeygenConfig) outputs {
	o := outputs{key: k.Out, public: k.PublicOut}
	if o.key == "" && !k.Put {
		o.key = defaultKeyFile
	}
	stem := strings.TrimSuffix(o.key, filepath.Ext(o.key))
	if o.public == "" && o.key != "" {
		o.public = stem + ".pub"
	}
	if k.GeneratePassphrase {
		o.passphrase = k.PassphraseFile
		if o.passphrase == "" && !k.Put {
			o.passphrase = stem + ".passphrase"
		}
	}
	return o
}

// choosePassphrase takes the passphrase from where the settings say; one that is stored already stays.
func choosePassphrase(ctx context.Context, c *config.KeygenConfig, store *keyStore) (secret.Value, error) {
	given, err := givenPassphrase(ctx, c)
	if err != nil {
		return secret.Value{}, err
	}
	if given.IsSet() {
		if err := keypair.CheckPassphrase(given); err != nil {
			return secret.Value{}, usageError{err}
		}
	}
	if store != nil && store.passphrase.IsSet() {
		return store.keep(given)
	}
	switch {
	case given.IsSet():
		return given, nil
	case c.GeneratePassphrase:
		return keypair.Passphrase(), nil
	default:
		return askPassphrase(ctx)
	}
}

// givenPassphrase is the one in the environment or a file, not set if there is none.
func givenPassphrase(ctx context.Context, c *config.KeygenConfig) (secret.Value, error) {
	if c.Passphrase.IsSet() || c.PassphraseFile == "" || c.GeneratePassphrase {
		return c.Passphrase, nil
	}
	return readPassphrase(ctx, c.PassphraseFile)
}
