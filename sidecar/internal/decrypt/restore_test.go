package decrypt

import (
	"encoding/base64"
	"encoding/hex"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/internal/keytext"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// The advised commands work on a text in every form in which a key is read: they begin with the one that makes the key
// file of it, or the advice names that file.
func TestParse_AdviceIsForTheKeyFileOfAWrappedText(t *testing.T) {
	testenv.Heavy(t)
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip(err)
	}
	fingerprint := fingerprintIn(t, "testdata")
	restored, advised := map[string]int{}, 0
	for _, kind := range []string{"traditional-encryption", "traditional-des", "camellia", "many-iterations-refused"} {
		file := testdata(t, kind)
		_, err := Parse(secret.New([]byte(file)), secret.New([]byte(passphrase)))
		_, command, _ := strings.Cut(err.Error(), "with: ")
		for _, name := range slices.Sorted(maps.Keys(written)) {
			text := written[name](file)
			_, err := Parse(secret.New([]byte(text)), secret.New([]byte(passphrase)))
			if err == nil || !strings.Contains(err.Error(), reencrypt) {
				continue // the DER alone of a block whose headers matter
			}
			says := err.Error()
			if !strings.HasSuffix(says, command) {
				t.Errorf("%s, %s: error %v; want it to end in %q", kind, name, err, command)
			}
			switch {
			case strings.Contains(says, "as STORED, and encrypt it again with: base64 -d"):
				restored[decodeBase64]++
			case strings.Contains(says, "as STORED, and encrypt it again with: printf"):
				restored[writeBreaks]++
			case strings.Contains(says, "take the key file that it was made from, and encrypt it again with: openssl"):
				continue // TestParse_AdviceWorks runs it
			case !isKeyFile([]byte(text), keytext.Inspect([]byte(text))):
				t.Errorf("%s, %s: error %v", kind, name, err)
			}
			if advised++; !testenv.Has(advised) {
				continue
			}
			t.Run(kind+", "+name, func(t *testing.T) {
				if made, makeErr := runAdvice(t, err, []byte(text), passphrase); makeErr != nil || made.Key.Fingerprint() != fingerprint {
					t.Errorf("after %v: %v, %v", err, made.Key, makeErr)
				}
			})
		}
	}
	for _, command := range []string{decodeBase64, writeBreaks} {
		if restored[command] < 3 {
			t.Errorf("%s was advised %d times", command, restored[command])
		}
	}
}

// A key file itself needs no more than the one command.
func TestParse_AdviceForAKeyFileIsShort(t *testing.T) {
	for _, kind := range []string{"traditional-encryption", "camellia", "many-iterations-refused", "aes256.p8"} {
		for end, text := range map[string]string{"LF": testdata(t, kind), "CRLF": strings.ReplaceAll(testdata(t, kind), "\n", "\r\n")} {
			if _, err := Parse(secret.New([]byte(text)), secret.New([]byte("wrong"))); err == nil || strings.Contains(err.Error(), "as it is") {
				t.Errorf("%s, %s: %v", kind, end, err)
			}
		}
	}
	_, err := Parse(secret.New([]byte(b64(testdata(t, "ec-encrypted")))), secret.New([]byte(passphrase)))
	if err == nil || strings.Contains(err.Error(), "as it is") {
		t.Errorf("to make another key nothing is restored: %v", err)
	}
}

func TestParse_AdviceForABinaryFileIsToDecodeTheText(t *testing.T) {
	encoded := testdata(t, "pkcs12")
	file, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(encoded, "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	for text, decode := range map[string]bool{encoded: true, string(file): false, hex.EncodeToString(file): false} {
		_, err := Parse(secret.New([]byte(text)), secret.Value{})
		if err == nil || strings.Contains(err.Error(), "decode the text from base64 into KEY.p12") != decode || !strings.Contains(err.Error(), fromPKCS12) {
			t.Errorf("error %v", err)
		}
		if inHex := text == hex.EncodeToString(file); strings.Contains(err.Error(), "take the file KEY.p12 that it was made from") != inHex {
			t.Errorf("error %v", err)
		}
	}
	const putty = "PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none\n"
	_, plain := Parse(secret.New([]byte(putty)), secret.Value{})
	_, wrapped := Parse(secret.New([]byte(b64(putty))), secret.Value{})
	if plain == nil || strings.Contains(plain.Error(), "base64") || wrapped == nil || !strings.Contains(wrapped.Error(), "decode the text from base64 into KEY.ppk") {
		t.Errorf("PuTTY: %v; in base64: %v", plain, wrapped)
	}
}

// What stands before and after a key does not keep openssl from it.
func TestParse_AdviceForAKeyFileWithOtherTextIsShort(t *testing.T) {
	key, certificate := testdata(t, "aes256.p8"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
	for _, text := range []string{"Bag Attributes\n    localKeyID: 01\nKey Attributes: <No Attributes>\n" + key, "\n" + key, certificate + key, key + certificate} {
		if _, err := Parse(secret.New([]byte(text)), secret.New([]byte("wrong"))); err == nil || strings.Contains(err.Error(), "as it is") {
			t.Errorf("%.30q: error %v", text, err)
		}
	}
}
