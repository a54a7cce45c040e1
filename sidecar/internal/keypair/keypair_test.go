package keypair_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/internal/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
	"github.com/snowkey/snowkey/sidecar/internal/keypair"
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

func TestOpensslReadsWhatIsEncrypted(t *testing.T) {
	for name, passphrase := range map[string]secret.Value{
		"generated": keypair.Passphrase(),
		"chosen":    value("correct horse 電池 '\"$ "),
		"shortest":  value("12345678"),
		"longest":   value(strings.Repeat("x", 1000)),
	} {
		t.Run(name, func(t *testing.T) {
			if err := keypair.CheckPassphrase(passphrase); err != nil {
				t.Fatal(err)
			}
			key := testkey.Key(1)
			text, err := keypair.Encrypt(key, passphrase)
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
			if public := openssl(t, text, "pkey", "-passin", "file:"+file, "-pubout"); !bytes.Equal(public, keypair.PublicPEM(key)) {
				t.Errorf("openssl's public key is\n%s, ours\n%s", public, keypair.PublicPEM(key))
			}
			back, err := decrypt.Key(secret.New(text), passphrase)
			if err != nil || !back.Equal(key) {
				t.Errorf("the sidecar reads %v, %v, want %v", back, err, key)
			}
		})
	}
}

func TestItIsEncryptedAsTheDocumentationSays(t *testing.T) {
	text, err := keypair.Encrypt(testkey.Key(1), keypair.Passphrase())
	if err != nil {
		t.Fatal(err)
	}
	said := string(openssl(t, text, "asn1parse"))
	for _, want := range []string{"PBES2", "PBKDF2", "hmacWithSHA256", "aes-256-cbc", ":0927C0"} { // 600,000
		if !strings.Contains(said, want) {
			t.Errorf("no %s in\n%s", want, said)
		}
	}
	again, err := keypair.Encrypt(testkey.Key(1), value("12345678"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(text, again) {
		t.Error("two keys are encrypted alike")
	}
}

func TestAWrongPassphraseDoesNotOpenIt(t *testing.T) {
	text, err := keypair.Encrypt(testkey.Key(1), value("the right one"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decrypt.Key(secret.New(text), value("the wrong one")); err == nil {
		t.Error("opened")
	}
}

func TestNothingIsEncryptedWithoutAPassphrase(t *testing.T) {
	for _, none := range []secret.Value{{}, value("")} {
		if text, err := keypair.Encrypt(testkey.Key(1), none); err == nil {
			t.Errorf("%d bytes without a passphrase", len(text))
		}
	}
}

func TestThePublicKeyIsWhatOpensslMakesOfIt(t *testing.T) {
	key := testkey.Key(1)
	der := openssl(t, keypair.PublicPEM(key), "pkey", "-pubin", "-outform", "der")
	digest := openssl(t, der, "dgst", "-sha256", "-binary")
	if got := "SHA256:" + strings.TrimSpace(string(openssl(t, digest, "base64"))); got != key.Fingerprint() {
		t.Errorf("openssl's fingerprint is %s, ours %s", got, key.Fingerprint())
	}
	if line := strings.ReplaceAll(string(openssl(t, der, "base64")), "\n", ""); line != keypair.PublicKey(key) {
		t.Errorf("openssl's public key is %s, ours %s", line, keypair.PublicKey(key))
	}
}

func TestGenerateMakesKeysOfTheSizesThatAreOffered(t *testing.T) {
	for _, bits := range []int{2048, 3072, 4096} {
		if testing.Short() && bits > 2048 {
			continue
		}
		key, err := keypair.Generate(bits)
		if err != nil {
			t.Fatal(err)
		}
		if got := key.RSA().N.BitLen(); got != bits {
			t.Errorf("%d bits, want %d", got, bits)
		}
	}
	for _, bits := range []int{0, 1024, 2047, 8192} {
		if _, err := keypair.Generate(bits); err == nil {
			t.Errorf("%d bits: made", bits)
		}
	}
}

func TestPassphrasesDiffer(t *testing.T) {
	a, b := keypair.Passphrase(), keypair.Passphrase()
	if bytes.Equal(a.Bytes(), b.Bytes()) || len(a.Bytes()) < 26 { // five bits a letter
		t.Error("not two passphrases of 128 bits")
	}
}

func TestAPassphraseThatIsNoneIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"none": "", "short": "1234567", "long": strings.Repeat("x", 1001),
		"two lines": "correct\nhorse battery", "carriage return": "correct\rhorse", "zero byte": "correct\x00horse",
	} {
		err := keypair.CheckPassphrase(value(text))
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		if text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v repeats it", name, err)
		}
	}
}
