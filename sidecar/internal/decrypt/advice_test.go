package decrypt

import (
	"bytes"
	"encoding/asn1"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/crypto/scrypt"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// commands finds the commands of an advice: what follows "with:" or "another:", up to a remark.
var commands = regexp.MustCompile(`(?:with|another): (.*?)(?: \((?:openssl|pip) [^)]*\))?(?:, and store .*)?$`)

// runAdvice runs what err advises, on a file of the text under every name that an advice uses. It gives what Parse
// makes of the result. The passphrase is typed as often as a program asks.
func runAdvice(t *testing.T, err error, text []byte, typed string) (Stored, error) {
	t.Helper()
	found := commands.FindStringSubmatch(err.Error())
	if found == nil {
		t.Fatalf("error %q has no command", err)
	}
	dir := t.TempDir()
	for _, name := range []string{"OLD.p8", "KEY.p8", "KEY.p12", "KEY.jks", "KEY.ppk", "KEY.jwk", "COPY", "STORED"} {
		if found[1] == fromKeystore && name == "KEY.p12" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "typed"), []byte(typed), 0o600); err != nil {
		t.Fatal(err)
	}
	for command := range strings.SplitSeq(found[1], ", and then ") {
		program, _, _ := strings.Cut(command, " ")
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
		// At a terminal a command behind a pipe asks there, and puttygen asks only there; here it has none.
		command = strings.Replace(command, "| openssl pkcs8 -topk8", `| openssl pkcs8 -topk8 -passout env:P`, 1)
		command = strings.Replace(command, "puttygen KEY.ppk", "puttygen KEY.ppk --old-passphrase typed", 1)
		cmd := exec.Command("sh", "-c", "set -e; "+command)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "P="+typed, "LC_ALL=C.UTF-8", "PYTHONWARNINGS=ignore")
		cmd.SysProcAttr = withoutTerminal
		cmd.Stdin = strings.NewReader(strings.Repeat(typed+"\n", 4))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	}
	for _, name := range []string{"NEW.p8", "COPY", "KEY.p8"} {
		made, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil && !bytes.Equal(made, text) {
			return Parse(secret.New(made), secret.New([]byte(typed)))
		}
	}
	t.Fatalf("%s made nothing", found[1])
	return Stored{}, nil
}

// Every command that an error advises makes a key that is read: the same, or another where the key itself is of no use.
func TestParse_AdviceWorks(t *testing.T) {
	testenv.Heavy(t)
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip(err)
	}
	fingerprint := fingerprintIn(t, "testdata")
	ran := 0
	for _, f := range forms {
		if len(f.fails) == 0 || f.givenPassphrase().IsSet() && string(f.givenPassphrase().Bytes()) != passphrase || strings.HasSuffix(f.name, "-written-out") {
			continue // of lines written out the advice is for the file that was stored
		}
		t.Run(f.name, func(t *testing.T) {
			text := []byte(testdata(t, f.name))
			_, err := Parse(secret.New(text), f.givenPassphrase())
			if err == nil || !commands.MatchString(err.Error()) {
				t.Skip("no command")
			}
			file := text
			if der, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(text), nil))); err == nil {
				file = der
			}
			made, makeErr := runAdvice(t, err, file, passphrase)
			if makeErr != nil {
				t.Fatal(makeErr)
			}
			if another := strings.Contains(err.Error(), "make another"); (made.Key.Fingerprint() != fingerprint) != another {
				t.Errorf("after %q the key is %v", err, made.Key)
			}
			ran++
		})
	}
	if ran < 20 {
		t.Errorf("%d commands were run", ran)
	}
}

// openssl 3 reads some ciphers of PKCS#12 with -legacy alone. In old files the key has one, the certificate, or both.
func TestParse_AdviceForPKCS12NamesTheLegacyProvider(t *testing.T) {
	testenv.Heavy(t)
	if err := exec.Command("openssl", "pkcs12", "-legacy", "-help").Run(); err != nil {
		t.Skip(err)
	}
	dir, fingerprint := t.TempDir(), fingerprintIn(t, "testdata")
	if err := os.WriteFile(filepath.Join(dir, "rsa.pem"), []byte(testdata(t, "rsa.pem")), 0o600); err != nil {
		t.Fatal(err)
	}
	for ciphers, legacy := range map[string]bool{
		"-keypbe PBE-SHA1-RC4-128":                        true,
		"-keypbe PBE-SHA1-RC4-40":                         true,
		"-keypbe PBE-SHA1-RC2-128":                        true,
		"-keypbe PBE-SHA1-RC2-40":                         true,
		"-keypbe PBE-MD5-DES":                             true,
		"-keypbe RC2-CBC":                                 true,
		"-keypbe BF-CBC":                                  true,
		"-keypbe aes-256-cbc -certpbe PBE-SHA1-RC2-40":    true,
		"-keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-RC4-128": true,
		"-keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES":    false,
		"-keypbe aes-256-cbc -certpbe aes-128-cbc":        false,
	} {
		t.Run(ciphers, func(t *testing.T) {
			made := form{name: "made", recipe: `set -e; openssl req -x509 -key rsa.pem -subj /CN=x -days 1 -out c; ` +
				`openssl pkcs12 -export -legacy -inkey rsa.pem -in c -passout pass:"$P" ` + ciphers}
			if err := made.write(dir); err != nil {
				t.Fatal(err)
			}
			file, err := os.ReadFile(filepath.Join(dir, "made"))
			if err != nil {
				t.Fatal(err)
			}
			_, err = Parse(secret.New(file), secret.Value{})
			if err == nil || strings.Contains(err.Error(), "-legacy") != legacy {
				t.Fatalf("error %v", err)
			}
			read, err := runAdvice(t, err, file, passphrase)
			if err != nil || read.Key.Fingerprint() != fingerprint {
				t.Errorf("after the advice: %v, %v", read.Key, err)
			}
		})
	}
}

// The same for files of other programs than openssl.
func TestParse_AdviceForOtherProgramsWorks(t *testing.T) {
	testenv.Heavy(t)
	const ascii = "correct horse" // not all of them take more
	fingerprint := fingerprintIn(t, "testdata")
	for name, tc := range map[string]struct{ needs, recipe, says string }{
		"OpenSSH, encrypted": {"ssh-keygen", `cp rsa.pem k; chmod 600 k; ssh-keygen -q -p -f k -N "$P" >&2; cat k`, "OpenSSH's own format"},
		"OpenSSH":            {"ssh-keygen", `cp rsa.pem k; chmod 600 k; ssh-keygen -q -p -f k -N "" >&2; cat k`, "OpenSSH's own format"},
		"PuTTY":              {"puttygen", `openssl rsa -traditional -in rsa.pem -out t; puttygen t -O private -o k; cat k`, "PuTTY's own format"},
		"PuTTY, encrypted":   {"puttygen", `openssl rsa -traditional -in rsa.pem -out t; printf %s "$P" > p; puttygen t --new-passphrase p -O private -o k; cat k`, "PuTTY's own format"},
		"JSON Web Key":       {"node", `node -e 'process.stdout.write(JSON.stringify(crypto.createPrivateKey(fs.readFileSync("rsa.pem")).export({format: "jwk"})))'`, "JSON Web Key"},
		"PKCS#12 of Java":    {"keytool", `openssl req -x509 -key rsa.pem -subj /CN=x -days 1 -out c; openssl pkcs12 -export -inkey rsa.pem -in c -passout env:P -out a; keytool -importkeystore -noprompt -srckeystore a -srcstoretype pkcs12 -srcstorepass "$P" -destkeystore k -deststoretype pkcs12 -deststorepass "$P" >&2; cat k`, "PKCS#12"},
		"Java KeyStore":      {"keytool", `openssl req -x509 -key rsa.pem -subj /CN=x -days 1 -out c; openssl pkcs12 -export -inkey rsa.pem -in c -passout env:P -out a; keytool -importkeystore -noprompt -srckeystore a -srcstoretype pkcs12 -srcstorepass "$P" -destkeystore k -deststoretype jks -deststorepass "$P" >&2; cat k`, "Java KeyStore"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(tc.needs); err != nil {
				t.Skip(err)
			}
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "rsa.pem"), []byte(testdata(t, "rsa.pem")), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := (form{name: "made", recipe: "set -e; P='" + ascii + "'; export P; " + tc.recipe}).write(dir); err != nil {
				t.Fatal(err)
			}
			file, err := os.ReadFile(filepath.Join(dir, "made"))
			if err != nil {
				t.Fatal(err)
			}
			for how, text := range map[string]string{"as it is": string(file), "in base64": b64(string(file))} {
				_, err = Parse(secret.New([]byte(text)), secret.New([]byte(passphrase)))
				if err == nil || !strings.Contains(err.Error(), tc.says) {
					t.Fatalf("%s: error %v, want one with %q", how, err, tc.says)
				}
				given := file
				if strings.Contains(err.Error(), "STORED") {
					given = []byte(text)
				}
				made, err := runAdvice(t, err, given, ascii)
				if err != nil || made.Key.Fingerprint() != fingerprint {
					t.Errorf("%s: after the advice: %v, %v", how, made.Key, err)
				}
			}
		})
	}
}

// withScrypt is the PKCS#8 of testdata/rsa.pem under a scrypt that may cost more than is run here.
func withScrypt(t *testing.T, n, r, p int) []byte {
	t.Helper()
	salt := bytes.Repeat([]byte("s"), 16)
	key, err := scrypt.Key([]byte(passphrase), salt, n, r, p, 32)
	if err != nil {
		t.Fatal(err)
	}
	iv := make([]byte, 16)
	return encryptedBy(t, scryptOf(t, len(salt), n, r, p), algorithmOf(t, "2.16.840.1.101.3.4.1.42", iv), cbcOf(t, key, iv, derOf(testdata(t, "rsa.pem"))))
}

// encryptedBy is an EncryptedPrivateKeyInfo.
func encryptedBy(t *testing.T, kdf, cipher algorithm, data []byte) []byte {
	t.Helper()
	der, err := asn1.Marshal(encryptedKey{Algorithm: algorithmOf(t, oidPBES2, pbes2{kdf, cipher}), Data: data})
	if err != nil {
		t.Fatal(err)
	}
	return pemOf("ENCRYPTED PRIVATE KEY", der)
}

// openssl stops at 32 MiB of scrypt. RustCrypto's default has 128.
func TestParse_AdviceForScryptWorks(t *testing.T) {
	testenv.Heavy(t)
	fingerprint := fingerprintIn(t, "testdata")
	if exec.Command("python3", "-c", "import cryptography").Run() != nil {
		t.Skip("no Python with cryptography")
	}
	text := withScrypt(t, 1<<18, 8, 1)
	_, err := Parse(secret.New(text), secret.New([]byte(passphrase)))
	if err == nil || !strings.Contains(err.Error(), "at most N*r*p 1048576") {
		t.Fatalf("error %v", err)
	}
	made, err := runAdvice(t, err, text, passphrase)
	if err != nil || made.Key.Fingerprint() != fingerprint {
		t.Errorf("after the advice: %v, %v", made.Key, err)
	}
	encoded := []byte(b64(string(text)))
	if _, err = Parse(secret.New(encoded), secret.New([]byte(passphrase))); err == nil || !strings.Contains(err.Error(), "STORED") {
		t.Fatalf("error %v", err)
	}
	made, err = runAdvice(t, err, encoded, passphrase)
	if err != nil || made.Key.Fingerprint() != fingerprint {
		t.Errorf("after the advice for base64: %v, %v", made.Key, err)
	}
	// The command that tries a passphrase.
	text = withScrypt(t, 1<<17, 8, 1)
	_, err = Parse(secret.New(text), secret.New([]byte("wrong")))
	if err == nil || !strings.Contains(err.Error(), tryPython) {
		t.Fatalf("error %v", err)
	}
	for typed, opens := range map[string]bool{passphrase: true, "wrong": false} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "KEY.p8"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sh", "-c", tryPython)
		cmd.Dir, cmd.Stdin, cmd.SysProcAttr = dir, strings.NewReader(typed+"\n"), withoutTerminal
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
		if out, err := cmd.CombinedOutput(); (err == nil) != opens {
			t.Errorf("%v\n%s", err, out)
		}
	}
}
