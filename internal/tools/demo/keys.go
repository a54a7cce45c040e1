package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/youmark/pkcs8"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// A pair is a key as it goes into Parameter Store and as it goes into Snowflake.
type pair struct {
	encrypted   string // PEM
	public      string // base64, as ALTER USER takes it
	publicFile  string // PEM
	fingerprint string
}

func makeKeys(ctx context.Context, dir string) (first, second pair, tool string, err error) {
	generate, tool := withGo, "Go's library (there is no openssl here)"
	if _, err := exec.LookPath("openssl"); err == nil {
		generate, tool = withOpenSSL, "openssl"
	}
	for i, p := range []*pair{&first, &second} {
		private, encrypted, err := generate(ctx)
		if err != nil {
			return first, second, tool, err
		}
		if *p, err = newPair(private, encrypted, filepath.Join(dir, fmt.Sprintf("key%d.pub", i+1))); err != nil {
			return first, second, tool, err
		}
	}
	return first, second, tool, nil
}

func withOpenSSL(ctx context.Context) (*rsa.PrivateKey, []byte, error) {
	const command = `openssl genrsa 2048 2>/dev/null | openssl pkcs8 -topk8 -v2 aes-256-cbc -passout env:PASSPHRASE`
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.Env = append(os.Environ(), "PASSPHRASE="+passphrase)
	encrypted, err := cmd.Output()
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", command, err)
	}
	block, _ := pem.Decode(encrypted)
	if block == nil {
		return nil, nil, fmt.Errorf("%s: no PEM", command)
	}
	private, err := pkcs8.ParsePKCS8PrivateKeyRSA(block.Bytes, []byte(passphrase))
	return private, encrypted, err
}

func withGo(context.Context) (*rsa.PrivateKey, []byte, error) {
	private, err := rsa.GenerateKey(rand.Reader, keyfile.MinBits)
	if err != nil {
		return nil, nil, err
	}
	der, err := pkcs8.MarshalPrivateKey(private, []byte(passphrase), nil)
	if err != nil {
		return nil, nil, err
	}
	return private, pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der}), nil
}

func newPair(private *rsa.PrivateKey, encrypted []byte, publicFile string) (pair, error) {
	spki, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		return pair{}, err
	}
	fingerprint, err := keyfile.Fingerprint(&private.PublicKey)
	if err != nil {
		return pair{}, err
	}
	p := pair{
		encrypted:   string(encrypted),
		public:      base64.StdEncoding.EncodeToString(spki),
		publicFile:  publicFile,
		fingerprint: fingerprint,
	}
	return p, os.WriteFile(publicFile, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}), 0o600)
}
