package keygen_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
	"github.com/snowkey/snowkey/sidecar/internal/keygen"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// openssl is a program that is not ours; what it says of a key counts.
func openssl(t *testing.T, stdin []byte, args ...string) []byte {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("no openssl program here")
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return out
}

func value(text string) secret.Value { return secret.New([]byte(text)) }

func TestEncrypt_OpensslReadsIt(t *testing.T) {
	testenv.Heavy(t)
	for name, passphrase := range map[string]secret.Value{
		"generated": keygen.NewPassphrase(),
		"chosen":    value("correct horse 電池 '\"$ "),
		"shortest":  value("12345678"),
		"longest":   value(strings.Repeat("x", 1000)),
	} {
		t.Run(name, func(t *testing.T) {
			if err := keygen.CheckPassphrase(passphrase); err != nil {
				t.Fatal(err)
			}
			key := testkey.Key(1)
			text, err := keygen.Encrypt(key, passphrase)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "passphrase")
			if err := os.WriteFile(file, append(passphrase.Bytes(), '\n'), 0o600); err != nil {
				t.Fatal(err)
			}
			out := openssl(t, text, "pkey", "-passin", "file:"+file, "-check")
			if !strings.HasPrefix(string(out), "Key is valid") {
				t.Errorf("openssl says %.40q", out)
			}
			der := openssl(t, text, "pkcs8", "-passin", "file:"+file, "-topk8", "-nocrypt", "-outform", "der")
			opened, err := keyfile.FromDER(der)
			if err != nil || !opened.Equal(key) {
				t.Errorf("openssl reads %v, %v, want %v", opened, err, key)
			}
			if public := openssl(t, text, "pkey", "-passin", "file:"+file, "-pubout"); !bytes.Equal(public, keygen.PublicPEM(key)) {
				t.Errorf("openssl's public key is\n%s, ours\n%s", public, keygen.PublicPEM(key))
			}
			stored, err := decrypt.Parse(secret.New(text), passphrase)
			if err != nil || !stored.Key.Equal(key) {
				t.Errorf("the sidecar reads %v, %v, want %v", stored.Key, err, key)
			}
		})
	}
}

func TestEncrypt_AsTheDocumentationSays(t *testing.T) {
	text, err := keygen.Encrypt(testkey.Key(1), keygen.NewPassphrase())
	if err != nil {
		t.Fatal(err)
	}
	said := string(openssl(t, text, "asn1parse"))
	for _, want := range []string{"PBES2", "PBKDF2", "hmacWithSHA256", "aes-256-cbc", ":0927C0"} { // 600,000
		if !strings.Contains(said, want) {
			t.Errorf("no %s in\n%s", want, said)
		}
	}
	again, err := keygen.Encrypt(testkey.Key(1), value("12345678"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(text, again) {
		t.Error("two keys are encrypted alike")
	}
}

func TestEncrypt_WrongPassphraseDoesNotOpenIt(t *testing.T) {
	text, err := keygen.Encrypt(testkey.Key(1), value("the right one"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decrypt.Parse(secret.New(text), value("the wrong one")); err == nil {
		t.Error("opened")
	}
}

func TestEncrypt_RefusesNoPassphrase(t *testing.T) {
	for _, none := range []secret.Value{{}, value("")} {
		if text, err := keygen.Encrypt(testkey.Key(1), none); err == nil {
			t.Errorf("%d bytes without a passphrase", len(text))
		}
	}
}

func TestPublicKey_IsWhatOpensslMakesOfIt(t *testing.T) {
	key := testkey.Key(1)
	der := openssl(t, keygen.PublicPEM(key), "pkey", "-pubin", "-outform", "der")
	digest := openssl(t, der, "dgst", "-sha256", "-binary")
	if got := "SHA256:" + strings.TrimSpace(string(openssl(t, digest, "base64"))); got != key.Fingerprint() {
		t.Errorf("openssl's fingerprint is %s, ours %s", got, key.Fingerprint())
	}
	if line := strings.ReplaceAll(string(openssl(t, der, "base64")), "\n", ""); line != keygen.PublicKey(key) {
		t.Errorf("openssl's public key is %s, ours %s", line, keygen.PublicKey(key))
	}
}

func TestGenerate_OfferedSizesAndNoOthers(t *testing.T) {
	testenv.Heavy(t)
	for _, bits := range []int{2048, 3072, 4096} {
		key, err := keygen.Generate(bits)
		if err != nil {
			t.Fatal(err)
		}
		if got := key.RSA().N.BitLen(); got != bits {
			t.Errorf("%d bits, want %d", got, bits)
		}
	}
	for _, bits := range []int{0, 1024, 2047, 8192} {
		if _, err := keygen.Generate(bits); err == nil {
			t.Errorf("%d bits: made", bits)
		}
	}
}

func TestNewPassphrase_Differs(t *testing.T) {
	a, b := keygen.NewPassphrase(), keygen.NewPassphrase()
	if bytes.Equal(a.Bytes(), b.Bytes()) || len(a.Bytes()) < 26 { // five bits a letter
		t.Error("not two passphrases of 128 bits")
	}
}

func TestCheckPassphrase_RefusesWeakAndAmbiguous(t *testing.T) {
	for name, text := range map[string]string{
		"none": "", "short": "1234567", "long": strings.Repeat("x", 1001),
		"two lines": "correct\nhorse battery", "carriage return": "correct\rhorse", "zero byte": "correct\x00horse",
	} {
		err := keygen.CheckPassphrase(value(text))
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		if text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v repeats it", name, err)
		}
	}
}
