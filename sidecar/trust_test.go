package main

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A company's authority has signed the certificates of both, as a proxy that opens TLS has it.
func TestTrust_SSMAndSnowflakeHonourTheSameSettings(t *testing.T) {
	t.Parallel()
	for source, tc := range map[string]struct {
		env   map[string]string
		fails []string
	}{
		"no setting":                         {nil, []string{"unknown authority", "in AWS_CA_BUNDLE or SSL_CERT_FILE, which SSM and Snowflake both use"}},
		"AWS_CA_BUNDLE, as for the AWS CLI":  {map[string]string{"AWS_CA_BUNDLE": "ours.pem"}, nil},
		"SSL_CERT_FILE, as for openssl":      {map[string]string{"SSL_CERT_FILE": "ours.pem"}, nil},
		"SSL_CERT_DIR":                       {map[string]string{"SSL_CERT_DIR": "certs"}, nil},
		"AWS_CA_BUNDLE of another authority": {map[string]string{"AWS_CA_BUNDLE": "other.pem", "SSL_CERT_FILE": "ours.pem"}, nil},
		"SSL_CERT_FILE of another authority": {map[string]string{"AWS_CA_BUNDLE": "ours.pem", "SSL_CERT_FILE": "other.pem"}, nil},
	} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			k := behindTLS(t)
			for variable, file := range tc.env {
				k.env[variable] = filepath.Join(k.env["HOME"], file)
			}
			if tc.fails == nil {
				k.do("once").want(exitDone, "published "+fingerprint(t, oldFingerprint))
				return
			}
			k.do("once").want(exitFailed, tc.fails...)
		})
	}
}

func TestTrust_BundleThatCannotBeUsedIsAUsageError(t *testing.T) {
	t.Parallel()
	for _, variable := range []string{"AWS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		for _, key := range []string{"from SSM", "from the environment"} {
			t.Run(variable+", a key "+key, func(t *testing.T) {
				t.Parallel()
				k := behindTLS(t)
				if key == "from the environment" {
					k.env["SNOWKEY_SECRET_KEY"], k.env["PRIVATE_KEY_PASSPHRASE"] = content(t, oldKey), passphrase
					delete(k.env, "SNOWKEY_KEY_PARAMETER")
					delete(k.env, "SNOWKEY_PASSPHRASE_PARAMETER")
				}
				k.env[variable] = filepath.Join(k.env["HOME"], "missing")
				for _, command := range []string{"once", "run"} {
					k.do(command).want(exitUsage, variable+": no such file or directory; name a")
				}
			})
		}
	}
}

// behindTLS is a task that verifies its key, with files of authorities in its home.
func behindTLS(t *testing.T) *task {
	t.Helper()
	k, account := verified(t)
	snowflake := httptest.NewTLSServer(account)
	t.Cleanup(snowflake.Close)
	k.env["SNOWFLAKE_PROTOCOL"], k.env["SNOWFLAKE_PORT"] = "https", snowflake.URL[len("https://127.0.0.1:"):]
	ssm := httptest.NewTLSServer(k.ssm)
	t.Cleanup(ssm.Close)
	k.env["AWS_ENDPOINT_URL_SSM"], k.env["AWS_MAX_ATTEMPTS"] = ssm.URL, "1"
	ours := ssm.Certificate().Raw // which both servers of httptest have
	home := t.TempDir()
	k.env["HOME"] = home
	k.must(os.Mkdir(filepath.Join(home, "certs"), 0o700))
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(nil, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"ours.pem":     certificate(ours),
		"certs/ca.pem": certificate(ours),
		"other.pem":    certificate(der),
	} {
		k.must(os.WriteFile(filepath.Join(home, name), []byte(text), 0o600))
	}
	return k
}

func certificate(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
