package decrypt

import (
	"bytes"
	"encoding/pem"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

var update = flag.Bool("update", false, "make testdata anew with the openssl program")

const (
	noPassphrase = "(none)"
	passphrase   = "correct horse 電池"
)

// A form is one file that the openssl program writes. The recipe is a shell command line whose
// output is the file; $P is the passphrase. What fails says so in its error text.
type form struct {
	name       string
	recipe     string
	passphrase string
	fails      []string
	legacy     bool // needs openssl's legacy provider
}

const (
	enc    = "openssl pkcs8 -topk8 -in rsa.pem -passout pass:\"$P\" "
	legacy = enc + "-provider legacy -provider default "
)

// The parts from which the other recipes start.
var parts = []form{
	{name: "rsa.pem", recipe: "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048"},
	{name: "rsa.fingerprint", recipe: "openssl pkey -in rsa.pem -pubout -outform DER | openssl dgst -sha256 -binary | openssl enc -base64"},
	{name: "rsa1024.pem", recipe: "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024"},
	{name: "ec.pem", recipe: "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"},
	{name: "rsa.pub", recipe: "openssl pkey -in rsa.pem -pubout"},
	{name: "aes256.p8", recipe: enc + "-v2 aes-256-cbc"},
}

var forms = []form{
	// Read.
	{name: "default", recipe: enc},
	{name: "des3", recipe: enc + "-v2 des3"},
	{name: "aes-128-cbc", recipe: enc + "-v2 aes-128-cbc"},
	{name: "aes-192-cbc", recipe: enc + "-v2 aes-192-cbc"},
	{name: "aes-256-cbc", recipe: enc + "-v2 aes-256-cbc"},
	{name: "prf-md5", recipe: enc + "-v2 aes-256-cbc -v2prf hmacWithMD5"},
	{name: "prf-sha1", recipe: enc + "-v2 aes-256-cbc -v2prf hmacWithSHA1"},
	{name: "prf-sha224", recipe: enc + "-v2 aes-256-cbc -v2prf hmacWithSHA224"},
	{name: "prf-sha256", recipe: enc + "-v2 aes-256-cbc -v2prf hmacWithSHA256"},
	{name: "prf-sha384", recipe: enc + "-v2 aes-256-cbc -v2prf hmacWithSHA384"},
	{name: "prf-sha512", recipe: enc + "-v2 aes-256-cbc -v2prf hmacWithSHA512"},
	{name: "prf-sha512-224", recipe: enc + "-v2 aes-256-cbc -v2prf hmacWithSHA512-224"},
	{name: "prf-sha512-256", recipe: enc + "-v2 aes-256-cbc -v2prf hmacWithSHA512-256"},
	{name: "many-iterations", recipe: enc + "-v2 aes-256-cbc -iter 600000"},
	{name: "scrypt", recipe: enc + "-scrypt"},
	{name: "scrypt-32-MiB", recipe: enc + "-scrypt -scrypt_N 16384 -scrypt_r 15 -scrypt_p 2"},
	{name: "empty-passphrase", recipe: "openssl pkcs8 -topk8 -in rsa.pem -v2 aes-256-cbc -passout pass:"},
	{name: "empty-passphrase-scrypt", recipe: "openssl pkcs8 -topk8 -in rsa.pem -scrypt -passout pass:"},
	{name: "unencrypted", recipe: "openssl pkcs8 -topk8 -nocrypt -in rsa.pem", passphrase: noPassphrase},
	{name: "unencrypted-with-needless-passphrase", recipe: "openssl pkcs8 -topk8 -nocrypt -in rsa.pem"},
	{name: "pkcs1", recipe: "openssl rsa -traditional -in rsa.pem", passphrase: noPassphrase},
	{name: "crlf", recipe: "sed 's/$/\\r/' aes256.p8"},
	{name: "cr-only", recipe: "tr '\\n' '\\r' < aes256.p8"},
	{name: "white-space-around", recipe: "printf ' \\n\\t\\n'; sed 's/^/  /; s/$/\\t /' aes256.p8; printf '\\n\\n'"},
	{name: "byte-order-mark", recipe: "printf '\\357\\273\\277'; cat aes256.p8"},
	{name: "body-alone", recipe: "grep -v -e ----- aes256.p8"},
	{name: "body-on-one-line", recipe: "grep -v -e ----- aes256.p8 | tr -d '\\n'"},
	{name: "pkcs1-body-alone", recipe: "openssl rsa -traditional -in rsa.pem | grep -v -e -----", passphrase: noPassphrase},
	{name: "unencrypted-body-alone", recipe: "grep -v -e ----- rsa.pem", passphrase: noPassphrase},
	{name: "no-line-breaks", recipe: "tr -d '\\n' < aes256.p8"},
	{name: "spaces-for-line-breaks", recipe: "tr '\\n' ' ' < aes256.p8"},
	{name: "escaped-line-breaks", recipe: "awk '{printf \"%s\\\\n\", $0}' aes256.p8"},
	{name: "text-before", recipe: "echo Bag Attributes; echo '    friendlyName: x'; cat aes256.p8"},
	{name: "public-key-before", recipe: "cat rsa.pub aes256.p8"},

	// Refused by name, with what to do.
	{name: "camellia", recipe: enc + "-v2 camellia-256-cbc", fails: []string{"camellia-256-cbc", reencrypt}},
	{name: "aria", recipe: enc + "-v2 aria-256-cbc", fails: []string{"aria-256-cbc", reencrypt}},
	{name: "aes-256-cfb", recipe: enc + "-v2 aes-256-cfb", fails: []string{"aes-256-cfb", reencrypt}},
	{name: "aes-256-ofb", recipe: enc + "-v2 aes-256-ofb", fails: []string{"aes-256-ofb", reencrypt}},
	{name: "sm4", recipe: enc + "-v2 sm4-cbc", fails: []string{"sm4-cbc", reencrypt}},
	{name: "des", legacy: true, recipe: legacy + "-v2 des", fails: []string{"des-cbc", "-provider legacy"}},
	{name: "rc2", legacy: true, recipe: legacy + "-v2 rc2", fails: []string{"rc2-cbc", "-provider legacy"}},
	{name: "blowfish", legacy: true, recipe: legacy + "-v2 bf-cbc", fails: []string{"bf-cbc", "-provider legacy"}},
	{name: "cast5", legacy: true, recipe: legacy + "-v2 cast5-cbc", fails: []string{"cast5-cbc", "-provider legacy"}},
	{name: "seed", legacy: true, recipe: legacy + "-v2 seed-cbc", fails: []string{"seed-cbc", "-provider legacy"}},
	{name: "pbe-md5-des", legacy: true, recipe: legacy + "-v1 PBE-MD5-DES", fails: []string{"pbeWithMD5AndDES-CBC", "-provider legacy"}},
	{name: "pbe-sha1-des", legacy: true, recipe: legacy + "-v1 PBE-SHA1-DES", fails: []string{"pbeWithSHA1AndDES-CBC"}},
	{name: "pbe-md5-rc2", legacy: true, recipe: legacy + "-v1 PBE-MD5-RC2-64", fails: []string{"pbeWithMD5AndRC2-CBC"}},
	{name: "pbe-sha1-rc2", legacy: true, recipe: legacy + "-v1 PBE-SHA1-RC2-64", fails: []string{"pbeWithSHA1AndRC2-CBC"}},
	{name: "pbe-sha1-3des", recipe: enc + "-v1 PBE-SHA1-3DES", fails: []string{"pbeWithSHA1And3-KeyTripleDES-CBC", reencrypt}},
	{name: "pbe-sha1-2des", recipe: enc + "-v1 PBE-SHA1-2DES", fails: []string{"pbeWithSHA1And2-KeyTripleDES-CBC", reencrypt}},
	{name: "pbe-sha1-rc4-128", legacy: true, recipe: legacy + "-v1 PBE-SHA1-RC4-128", fails: []string{"pbeWithSHA1And128BitRC4"}},
	{name: "pbe-sha1-rc4-40", legacy: true, recipe: legacy + "-v1 PBE-SHA1-RC4-40", fails: []string{"pbeWithSHA1And40BitRC4"}},
	{name: "pbe-sha1-rc2-128", legacy: true, recipe: legacy + "-v1 PBE-SHA1-RC2-128", fails: []string{"pbeWithSHA1And128BitRC2-CBC"}},
	{name: "pbe-sha1-rc2-40", legacy: true, recipe: legacy + "-v1 PBE-SHA1-RC2-40", fails: []string{"pbeWithSHA1And40BitRC2-CBC"}},
	{name: "traditional-encryption", recipe: "openssl rsa -traditional -aes256 -passout pass:\"$P\" -in rsa.pem", fails: []string{"DEK-Info: AES-256-CBC", reencrypt}},
	{name: "traditional-des", legacy: true, recipe: "openssl rsa -traditional -des -provider legacy -provider default -passout pass:\"$P\" -in rsa.pem", fails: []string{"DEK-Info: DES-CBC", "-provider legacy"}},
	{name: "pkcs12", recipe: "openssl pkcs12 -export -nocerts -inkey rsa.pem -passout pass:\"$P\" | openssl base64", fails: []string{"PKCS#12", fromPKCS12}},
	{name: "pkcs12-legacy", legacy: true, recipe: "openssl req -x509 -key rsa.pem -subj /CN=x -days 1 -out cert && openssl pkcs12 -export -legacy -inkey rsa.pem -in cert -passout pass:\"$P\" | openssl base64", fails: []string{"PKCS#12", fromPKCS12, "-legacy"}},
	{name: "traditional-of-lines-written-out", recipe: "openssl rsa -traditional -aes256 -passout pass:\"$P\" -in rsa.pem | awk '{printf \"%s\\\\n\", $0}'", fails: []string{"DEK-Info: AES-256-CBC"}},
	{name: "many-iterations-refused", recipe: enc + "-v2 aes-256-cbc -iter 4000001", fails: []string{"4000001 iterations", "at most 4000000", reencrypt}},

	// Not a key that Snowflake takes.
	{name: "ec", recipe: "cat ec.pem", fails: []string{"a key of type EC", "RSA only"}},
	{name: "ec-encrypted", recipe: "openssl pkcs8 -topk8 -v2 aes-256-cbc -in ec.pem -passout pass:\"$P\"", fails: []string{"an EC key", "RSA only"}},
	{name: "ec-sec1", recipe: "openssl ec -in ec.pem", fails: []string{"an EC key", "RSA only"}},
	{name: "ed25519", recipe: "openssl genpkey -algorithm ED25519", fails: []string{"Ed25519", "RSA only"}},
	{name: "rsa-pss", recipe: "openssl genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048", fails: []string{"RSA-PSS", "RSA only"}},
	{name: "rsa-1024", recipe: "cat rsa1024.pem", fails: []string{"shorter than 2048 bits", "it has 1024", "openssl genrsa 2048"}},
	{name: "rsa-1024-encrypted", recipe: "openssl pkcs8 -topk8 -in rsa1024.pem -passout pass:\"$P\"", fails: []string{"shorter than 2048 bits"}},
	{name: "public-key", recipe: "cat rsa.pub", fails: []string{"a public key, not a private key"}},
	{name: "public-key-body", recipe: "grep -v -e ----- rsa.pub", fails: []string{"public key or certificate"}},
	{name: "certificate", recipe: "openssl req -x509 -key rsa.pem -subj /CN=x -days 1", fails: []string{"a certificate, not a private key"}},
	{name: "truncated", recipe: "head -n 12 aes256.p8", fails: []string{"truncated", "no END"}},
	{name: "truncated-body", recipe: "grep -v -e ----- aes256.p8 | head -n 12", fails: []string{"truncated"}},
	{name: "truncated-inside", recipe: "sed '10,20d' aes256.p8", fails: []string{"truncated"}},
	{name: "passphrase-pasted-for-key", recipe: "printf %s \"$P\"", fails: []string{"neither PEM nor base64"}},
	{name: "empty", recipe: "true", fails: []string{"empty"}},

	// The passphrase.
	{name: "wrong-passphrase", recipe: enc + "-v2 aes-256-cbc", passphrase: "wrong", fails: []string{"passphrase does not open"}},
	{name: "empty-for-a-passphrase", recipe: enc + "-v2 aes-256-cbc", passphrase: "", fails: []string{"passphrase does not open"}},
	{name: "no-passphrase", recipe: enc + "-v2 aes-256-cbc", passphrase: noPassphrase, fails: []string{"no passphrase was given", "--passphrase-parameter"}},
	{name: "passphrase-with-line-break", recipe: enc + "-v2 aes-256-cbc", passphrase: passphrase + "\n"},
	{name: "passphrase-with-crlf", recipe: enc + "-v2 aes-256-cbc", passphrase: passphrase + "\r\n"},

	// In a secret that AWS rotates.
	{name: "managed-secret", recipe: managed(withBreaks, `"passphrase":"'"$P"'"`), passphrase: noPassphrase},
	{name: "managed-secret-breaks-escaped-twice", recipe: managed(`$(awk '{printf "%s\\\\n", $0}' aes256.p8)`, `"passphrase":"'"$P"'"`), passphrase: noPassphrase},
	{name: "managed-secret-breaks-not-escaped", recipe: managed(`$(cat aes256.p8)`, `"passphrase":"'"$P"'"`), passphrase: noPassphrase},
	{name: "managed-secret-without-breaks", recipe: managed(`$(tr -d '\n' < aes256.p8)`, `"passphrase":"'"$P"'"`), passphrase: noPassphrase},
	{name: "managed-secret-body-alone", recipe: managed(`$(grep -v -e ----- aes256.p8 | tr -d '\n')`, `"passphrase":"'"$P"'"`), passphrase: noPassphrase},
	{name: "managed-secret-not-encrypted", recipe: managed(`$(grep -v -e ----- rsa.pem | tr -d '\n')`, `"passphrase":""`), passphrase: noPassphrase},
	{name: "managed-secret-folded", recipe: "printf '\\357\\273\\277\\n'; " + managed(withBreaks, `"passphrase":"'"$P"'"`) + " | tr ',' '\\n' | sed '$!s/$/,/'", passphrase: noPassphrase},
	{name: "managed-secret-with-passphrase-beside-it", recipe: managed(withBreaks, `"encryptPrivateKey":"True"`)},
	{name: "managed-secret-passphrase-given-wins", recipe: managed(withBreaks, `"passphrase":"wrong"`)},
	{name: "managed-secret-wrong-passphrase-given-wins", recipe: managed(withBreaks, `"passphrase":"'"$P"'"`), passphrase: "wrong",
		fails: []string{"passphrase does not open"}},
	{name: "managed-secret-lacks-passphrase", recipe: managed(withBreaks, `"passphrase":null`), passphrase: noPassphrase,
		fails: []string{"no passphrase was given"}},
	{name: "managed-secret-without-key", recipe: `printf '{"account":"a","user":"u","passphrase":"%s"}' "$P"`, fails: []string{"JSON without privateKey", "SnowflakeKeyPairAuthentication"}},
	{name: "managed-secret-cut", recipe: managed(withBreaks, `"passphrase":"'"$P"'"`) + " | head -c 900", fails: []string{"begins like JSON", "SnowflakeKeyPairAuthentication"}},
	{name: "managed-secret-key-is-no-text", recipe: `printf '{"privateKey":{"passphrase":"%s"}}' "$P"`, fails: []string{"not a string", "SnowflakeKeyPairAuthentication"}},
	{name: "managed-secret-key-for-user", recipe: `printf '{"account":"ORG-NAME","user":"%s","privateKey":"SVC"}' "` + withBreaks + `"`, fails: []string{"neither PEM nor base64"}},
	{name: "managed-secret-in-a-secret", recipe: `printf '{"privateKey":"{\\"privateKey\\":1}"}'`, fails: []string{"neither PEM nor base64"}},
	{name: "managed-secret-with-public-key", recipe: managed(`$(awk '{printf "%s\\n", $0}' rsa.pub)`, `"passphrase":""`), fails: []string{"a public key, not a private key"}},
}

// withBreaks is a PEM as JSON has it.
const withBreaks = `$(awk '{printf "%s\\n", $0}' aes256.p8)`

// managed is the recipe of a managed secret with a private key and another field.
func managed(privateKey, field string) string {
	return `printf '{"account":"ORG-NAME","user":"SVC","privateKey":"%s","publicKey":"-----BEGIN PUBLIC KEY-----",` + field + `}' "` + privateKey + `"`
}

func (f form) givenPassphrase() secret.Value {
	switch {
	case f.passphrase == noPassphrase:
		return secret.Value{}
	case strings.HasPrefix(f.name, "empty-"):
		return secret.New([]byte{})
	case f.passphrase == "":
		return secret.New([]byte(passphrase))
	default:
		return secret.New([]byte(f.passphrase))
	}
}

func (f form) check(t *testing.T, text []byte, fingerprint string) {
	t.Helper()
	stored, err := Parse(secret.New(text), f.givenPassphrase())
	if len(f.fails) == 0 {
		if err != nil {
			t.Fatal(err)
		}
		if got := stored.Key.Fingerprint(); got != fingerprint {
			t.Fatalf("fingerprint %s, openssl says %s", got, fingerprint)
		}
		return
	}
	if err == nil {
		t.Fatalf("read; want an error with %q", f.fails)
	}
	for _, want := range f.fails {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q lacks %q", err, want)
		}
	}
	if !failure.Permanent(err) {
		t.Errorf("error %q of class %s counts as one that passes", err, failure.Class(err))
	}
	if strings.Contains(err.Error(), passphrase) {
		t.Errorf("error %q repeats the passphrase", err)
	}
}

// The files that openssl wrote when testdata was made.
func TestParse_FilesOfOpenSSL(t *testing.T) {
	testenv.Slow(t)
	checkForms(t, "testdata", nil)
}

// The same table with files that the openssl on this machine writes now.
func TestParse_FilesOfThisOpenSSL(t *testing.T) {
	testenv.Heavy(t)
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("REQUIRE_OPENSSL") != "" {
			t.Fatal("REQUIRE_OPENSSL is set and there is no openssl program")
		}
		t.Skip("no openssl program here; the files in testdata, which it wrote, are tested all the same")
	}
	dir := t.TempDir()
	if *update {
		dir = "testdata"
	}
	for _, f := range parts {
		if err := f.write(dir); err != nil {
			t.Fatal(err)
		}
	}
	checkForms(t, dir, func(f form) error { return f.write(dir) })
}

func checkForms(t *testing.T, dir string, write func(form) error) {
	fingerprint := fingerprintIn(t, dir)
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			if write != nil {
				err := write(f)
				if err != nil && f.legacy {
					t.Skipf("this openssl has no legacy provider: %v", err)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			text, err := os.ReadFile(filepath.Join(dir, f.name))
			if err != nil {
				t.Fatal(err)
			}
			f.check(t, text, fingerprint)
		})
	}
}

func fingerprintIn(t *testing.T, dir string) string {
	t.Helper()
	sum, err := os.ReadFile(filepath.Join(dir, "rsa.fingerprint"))
	if err != nil {
		t.Fatal(err)
	}
	return "SHA256:" + strings.TrimSpace(string(sum))
}

func (f form) write(dir string) error {
	cmd := exec.Command("sh", "-c", f.recipe)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "P="+passphrase)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", f.recipe, err, &stderr)
	}
	return os.WriteFile(filepath.Join(dir, f.name), out, 0o600)
}

func pemIn(t *testing.T, name string) *pem.Block {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("%s is not PEM", name)
	}
	return block
}

// youmark/pkcs8 panics on a wrong IV or half a block.
func TestParse_DamagedValueDoesNotPanic(t *testing.T) {
	der := pemIn(t, "aes256.p8").Bytes
	text := func(der []byte) secret.Value {
		return secret.New(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der}))
	}
	for i := range min(len(der), 120) {
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			damaged := bytes.Clone(der)
			damaged[i] ^= flip
			_, _ = Parse(text(damaged), secret.New([]byte("wrong")))
		}
		if _, err := Parse(text(der[:i]), secret.New([]byte(passphrase))); err == nil {
			t.Fatalf("read after %d bytes", i)
		}
	}
}

func TestParse_LoginOfManagedSecret(t *testing.T) {
	for name, want := range map[string]Login{
		"managed-secret":                {Account: "ORG-NAME", User: "SVC"},
		"managed-secret-folded":         {Account: "ORG-NAME", User: "SVC"},
		"managed-secret-cut":            {},
		"managed-secret-key-for-user":   {Account: "ORG-NAME", InvalidUser: invalidUser},
		"managed-secret-key-is-no-text": {},
		"aes256.p8":                     {},
		"empty":                         {},
	} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		for how, given := range map[string]secret.Value{
			"right": secret.New([]byte(passphrase)), "wrong": secret.New([]byte("wrong")), "no": {},
		} {
			stored, _ := Parse(secret.New(text), given)
			if managed := strings.HasPrefix(name, "managed-"); stored.Login != want || stored.Managed != managed {
				t.Errorf("%s with %s passphrase: %+v, managed %v; want %+v, %v", name, how, stored.Login, stored.Managed, want, managed)
			}
		}
	}
}

func TestParse_LongestName(t *testing.T) {
	for _, n := range []int{255, 256} {
		user := strings.Repeat("Ü", n)
		want := Login{User: user}
		if n > 255 {
			want = Login{InvalidUser: invalidUser}
		}
		text := fmt.Sprintf(`{"privateKey":"x","user":"%s"}`, user)
		stored, _ := Parse(secret.New([]byte(text)), secret.Value{})
		if got := stored.Login; got != want {
			t.Errorf("a name of %d letters: %d letters are left", n, utf8.RuneCountInString(got.User))
		}
	}
}

func TestParse_AccountOfManagedSecret(t *testing.T) {
	for written, want := range map[string]string{
		"myorg-acct": "myorg-acct",
		"https://myorg-acct.snowflakecomputing.com": "myorg-acct",
		" MYORG.ACCT ":           "MYORG-ACCT",
		"hunter2 hunter2":        "",
		strings.Repeat("a", 256): "",
	} {
		text := fmt.Sprintf(`{"privateKey":"x","account":"%s"}`, written)
		stored, _ := Parse(secret.New([]byte(text)), secret.Value{})
		if stored.Login.Account != want {
			t.Errorf("%s: %q, want %q", written, stored.Login.Account, want)
		}
		if says := stored.Login.InvalidAccount; (want == "") != strings.Contains(says, "ORGANIZATION-ACCOUNT") || strings.Contains(says, written) {
			t.Errorf("%s: invalid since %q", written, says)
		}
	}
}

// FuzzParse tries each text without a passphrase and with the one that opens most seeds.
func FuzzParse(f *testing.F) {
	for _, form := range forms {
		if text, err := os.ReadFile(filepath.Join("testdata", form.name)); err == nil {
			f.Add(text)
		}
	}
	for _, text := range unencryptedTexts(f) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		without, with := parseAny(t, text, secret.Value{}), parseAny(t, text, secret.New([]byte(passphrase)))
		if without.Managed != with.Managed || without.Login != with.Login || !without.Managed && without.Encryption != with.Encryption {
			t.Fatalf("%+v without a passphrase, %+v with one", without, with)
		}
		if without.Managed {
			return
		}
		checkParity(t, text)
		if without.Key != nil && !without.Key.Equal(with.Key) {
			t.Fatalf("a key that is not encrypted is %v with a needless passphrase", with.Key)
		}
	})
}

// parseAny checks what holds for any text.
func parseAny(t *testing.T, text []byte, given secret.Value) Stored {
	t.Helper()
	stored, err := Parse(secret.New(bytes.Clone(text)), given)
	if (stored.Key == nil) == (err == nil) {
		t.Fatalf("key %v and error %v", stored.Key, err)
	}
	if err != nil && failure.Class(err) != keyfile.ClassUnreadableKey && failure.Class(err) != keyfile.ClassPassphrase {
		t.Fatalf("error %v of class %s", err, failure.Class(err))
	}
	if stored.Managed != IsManagedSecret(secret.New(text)) {
		t.Fatalf("read as a managed secret: %v", stored.Managed)
	}
	return stored
}
