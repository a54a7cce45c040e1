package keytext_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/keytext"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
)

// content returns a file that openssl wrote for the sidecar's tests; decrypt_test.go there has the recipes.
func content(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("../../sidecar/internal/decrypt/testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestInspect_Hexadecimal(t *testing.T) {
	der := keyfile.DER.Encode(testkey.Key(0))
	plain := hex.EncodeToString(der)
	for source, text := range map[string]string{
		"openssl's own form":            testkey.Hex(der, "%02x", ":"),
		"in capitals":                   strings.ToUpper(plain),
		"openssl -text, folded":         "    " + testkey.Hex(der[:15], "%02x", ":") + ":\n    " + testkey.Hex(der[15:], "%02x", ":") + "\n",
		"hexdump":                       testkey.Hex(der, "%02x", " "),
		"BitConverter of .NET":          testkey.Hex(der, "%02X", "-"),
		"SQL Server":                    "0x" + plain,
		"MySQL":                         "X'" + strings.ToUpper(plain) + "'",
		"PostgreSQL":                    `\x` + plain,
		"PostgreSQL, escaped once more": `\\x` + plain,
		"C, an array":                   "{ " + testkey.Hex(der, "0x%02x", ", ") + " };",
		"a JavaScript array":            "[" + testkey.Hex(der, "0x%02X", ",") + "]",
		"C, a string":                   `"` + testkey.Hex(der, `\x%02x`, "") + `"`,
		"Python, bytes":                 "b'" + testkey.Hex(der, `\x%02x`, "") + "'",
		"a shell's printf":              testkey.Hex(der, `\x%02X`, ""),
		"an env file":                   "KEY=" + testkey.Hex(der, "%02x", ":") + "\n",
		"an env file, escapes":          "KEY='" + testkey.Hex(der, `\x%02x`, "") + "'\n",
		"in UTF-16":                     string(testkey.UTF16([]byte(testkey.Hex(der, "%02x", ":")))),
		"in base64":                     string(testkey.Base64([]byte(testkey.Hex(der, "0x%02x", " ")))),
		"between BEGIN and END":         "-----BEGIN PRIVATE KEY-----\n" + testkey.Hex(der, "%02x", ":") + "\n-----END PRIVATE KEY-----\n",
	} {
		c := keytext.Inspect([]byte(text))
		if c.Form != keytext.FormPKCS8 || !bytes.Equal(c.DER(), der) {
			t.Errorf("%s: form %d", source, c.Form)
		}
	}
	for _, text := range []string{"30:82:hunter2", "0x308", "3", `\x`, "30"} {
		if c := keytext.Inspect([]byte(text)); c.DER() != nil && c.Form != keytext.FormTruncated {
			t.Errorf("%s: form %d", text, c.Form)
		}
	}
}

// Even the largest text takes little time, with any repetition in it and in any number of encodings.
func TestInspect_Bounded(t *testing.T) {
	testenv.Heavy(t)
	text := string(keyfile.PEM.Encode(testkey.Key(0)))
	for _, piece := range []string{
		"-", "-----BEGIN ", "-----BEGIN PRIVATE KEY-----\n", "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n", "BEGIN A KEY\n", "A: b\n", "\\", `\\n`, "\"\n", "\" +",
		"%41", "&#65;", "=3D", "=", "{", `{"kty`, "a=", "/a", "308", "30:82:", "0x30 ", `\x30`, "0", "\x00", "a\x00", "\u2028", "A", "A*", " ", "+ ", ">", "Proc-Type:", "DEK-Info: ", text,
	} {
		data := bytes.Repeat([]byte(piece), keytext.MaxSize/len(piece))
		for layer := range 3 {
			start := time.Now()
			c := keytext.Inspect(data)
			c.Clear()
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("%q, %d times in base64, took %v", piece, layer, took)
			}
			data = testkey.Base64(data[:len(data)*3/4-4])
		}
	}
}

func TestInspect_Details(t *testing.T) {
	t.Run("algorithm", func(t *testing.T) {
		c := keytext.Inspect(content(t, "ed25519"))
		if c.Form != keytext.FormPKCS8 || c.Algorithm != "1.3.101.112" {
			t.Errorf("form %d, algorithm %q", c.Form, c.Algorithm)
		}
	})
	t.Run("cipher", func(t *testing.T) {
		c := keytext.Inspect(content(t, "traditional-encryption"))
		if c.Form != keytext.FormTraditional || c.Cipher != "AES-256-CBC" {
			t.Errorf("form %d, cipher %q", c.Form, c.Cipher)
		}
	})
	t.Run("types", func(t *testing.T) {
		c := keytext.Inspect(content(t, "public-key-before"))
		if c.Type != "ENCRYPTED PRIVATE KEY" || !slices.Equal(c.Types, []string{"PUBLIC KEY", "ENCRYPTED PRIVATE KEY"}) {
			t.Errorf("type %q of %q", c.Type, c.Types)
		}
	})
}

func TestContent_PrintsNoKey(t *testing.T) {
	der := keyfile.DER.Encode(testkey.Key(0))
	c := keytext.Inspect(der)
	if !bytes.Equal(c.DER(), der) {
		t.Fatal("the DER is another")
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		for _, value := range []any{c, &c, []keytext.Content{c}} {
			if out := fmt.Sprintf(verb, value); len(out) > 400 {
				t.Errorf("%s prints %d bytes", verb, len(out))
			}
		}
	}
	c.Clear()
	if slices.Max(c.DER()) != 0 {
		t.Error("Clear left bytes of the key")
	}
	if der[0] != 0x30 {
		t.Error("Clear has changed the input")
	}
}
