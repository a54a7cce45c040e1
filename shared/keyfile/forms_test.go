package keyfile_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
)

func encodePEM(label string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der})
}

// public returns the DER of test key 0's public key.
func public(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&testkey.Key(0).RSA().PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// forms are texts that hold test key 0, each with the name of its form.
func forms(t testing.TB) map[string][]byte {
	key := testkey.Key(0)
	der, text, line := keyfile.DER.Encode(key), keyfile.PEM.Encode(key), keyfile.B64.Encode(key)
	pkcs1 := x509.MarshalPKCS1PrivateKey(key.RSA())
	replaced := func(text []byte, old, with string) []byte { return bytes.ReplaceAll(text, []byte(old), []byte(with)) }
	around := func(before string, text []byte, after string) []byte {
		return slices.Concat([]byte(before), text, []byte(after))
	}
	body := bytes.Join(bytes.Split(text, []byte("\n"))[1:len(bytes.Split(text, []byte("\n")))-2], []byte("\n"))
	cert := string(encodePEM("CERTIFICATE", public(t)))
	return map[string][]byte{
		"byte order mark":                  around("\ufeff", text, ""),
		"byte order mark, base64":          around("\ufeff", line, ""),
		"byte order mark, CRLF":            around("\ufeff", replaced(text, "\n", "\r\n"), ""),
		"CRLF":                             replaced(text, "\n", "\r\n"),
		"CR only":                          replaced(text, "\n", "\r"),
		"spaces for line breaks":           replaced(text, "\n", " "),
		"no line breaks":                   replaced(text, "\n", ""),
		"line breaks written out":          replaced(text, "\n", `\n`),
		"CRLF written out":                 replaced(text, "\n", `\r\n`),
		"spaces around the lines":          around(" \n\t\n  ", replaced(text, "\n", "\t \n  "), "\n\n"),
		"text before":                      around("Bag Attributes\n    friendlyName: x\n", text, ""),
		"text after":                       around("", text, "end of the key\n"),
		"certificate before":               around(cert, text, ""),
		"certificate after":                around("", text, cert),
		"public key before":                around(string(encodePEM("PUBLIC KEY", public(t))), text, ""),
		"another private key after":        around("", text, string(encodePEM("PRIVATE KEY", keyfile.DER.Encode(testkey.Key(1))))),
		"BEGIN line that is none before":   around("-----BEGIN here-----\n", text, ""),
		"quotation marks around":           around("\"", replaced(text, "\n", `\n`), "\"\n"),
		"PKCS#1":                           encodePEM("RSA PRIVATE KEY", pkcs1),
		"PKCS#1, DER":                      pkcs1,
		"PKCS#1, base64":                   []byte(base64.StdEncoding.EncodeToString(pkcs1)),
		"PKCS#1 labelled as PKCS#8":        encodePEM("PRIVATE KEY", pkcs1),
		"PKCS#8 labelled as PKCS#1":        encodePEM("RSA PRIVATE KEY", der),
		"not encrypted, labelled as it is": encodePEM("ENCRYPTED PRIVATE KEY", der),
		"body of the PEM":                  body,
		"body with CRLF and spaces":        around(" ", replaced(body, "\n", " \r\n\t"), " \r\n"),
		"base64 without line break":        bytes.TrimSpace(line),
		"base64, line breaks written out":  replaced(body, "\n", `\n`),
		"DER with a line break after it":   around("", der, "\n"),
		"base64 of the PEM":                testkey.Base64(text),
		"base64 of base64 of the PEM":      testkey.Base64(testkey.Base64(text)),
		"base64url of the PEM":             []byte(base64.RawURLEncoding.EncodeToString(text)),
		"base64url":                        []byte(base64.URLEncoding.EncodeToString(der)),
		"hexadecimal":                      []byte(hex.EncodeToString(der)),
		"hexadecimal, after 0x":            []byte("0x" + hex.EncodeToString(der)),
		"hexadecimal, colons between":      []byte(testkey.Hex(der, "%02x", ":")),
		"UTF-16, little-endian":            testkey.UTF16(text),
		"UTF-16, big-endian, mark":         append([]byte("\xfe\xff\x00"), bytes.TrimSuffix(testkey.UTF16(text), []byte("\x00"))...),
		"base64 of UTF-16":                 testkey.Base64(testkey.UTF16(text)),
		"line breaks written out twice":    replaced(text, "\n", `\\n`),
		"percent signs":                    []byte(url.PathEscape(string(text))),
		"quotation of a mail":              around("> ", replaced(text, "\n", "\n> "), "\n"),
		"line of an env file":              around("KEY=", testkey.Base64(text), "\n"),
		"long dashes":                      replaced(text, "-----", "——"),
		"no dashes":                        replaced(text, "-----", ""),
		"no white space":                   replaced(replaced(text, "\n", ""), " ", ""),
		"no BEGIN line":                    text[bytes.IndexByte(text, '\n'):],
		"no END line":                      text[:bytes.LastIndex(text, []byte("-----END"))],
	}
}

func TestParse_Forms(t *testing.T) {
	for name, text := range forms(t) {
		t.Run(name, func(t *testing.T) {
			before := bytes.Clone(text)
			key, err := keyfile.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			if !key.Equal(testkey.Key(0)) {
				t.Errorf("read %v, want %v", key, testkey.Key(0))
			}
			if !bytes.Equal(text, before) {
				t.Error("the text has changed")
			}
		})
	}
}

func TestParse_ByteOrderMark(t *testing.T) {
	for _, f := range []keyfile.Format{keyfile.PEM, keyfile.B64} {
		t.Run(string(f), func(t *testing.T) {
			key, err := keyfile.Parse(append([]byte("\ufeff"), f.Encode(testkey.Key(0))...))
			if err != nil || !key.Equal(testkey.Key(0)) {
				t.Errorf("read %v, %v", key, err)
			}
		})
	}
}

// Every error is one of the package's, names what was found, and quotes nothing of the key.
func TestParse_Errors(t *testing.T) {
	text := keyfile.PEM.Encode(testkey.Key(0))
	der := keyfile.DER.Encode(testkey.Key(0))
	cert, pub := encodePEM("CERTIFICATE", public(t)), encodePEM("PUBLIC KEY", public(t))
	encrypted := content(t, testdata+"aes256.p8")
	for name, tc := range map[string]struct {
		data []byte
		want error
		says string
	}{
		"certificate and public key":      {slices.Concat(cert, pub, cert), keyfile.ErrNotKey, "PEM blocks found: CERTIFICATE, PUBLIC KEY"},
		"public key without PEM":          {public(t), keyfile.ErrNotKey, "public key or a certificate"},
		"public key in base64":            {content(t, testdata+"public-key-body"), keyfile.ErrNotKey, "public key or a certificate"},
		"no END line":                     {text[:len(text)/2], keyfile.ErrNotKey, "truncated, no END PRIVATE KEY line"},
		"half the DER":                    {der[:len(der)/2], keyfile.ErrNotKey, "truncated"},
		"half the DER in base64":          {[]byte(base64.StdEncoding.EncodeToString(der[:600])), keyfile.ErrNotKey, "truncated"},
		"half the DER in PEM":             {encodePEM("PRIVATE KEY", der[:600]), keyfile.ErrNotKey, "truncated"},
		"letter missing at the beginning": {bytes.Replace(text, []byte("MII"), []byte("MI"), 1), keyfile.ErrNotKey, ""},
		"block of another thing":          {encodePEM("PRIVATE KEY", []byte("\x80 is no DER")), keyfile.ErrNotKey, "its PRIVATE KEY block is damaged"},
		"nothing but white space":         {[]byte("\ufeff \n"), keyfile.ErrNotKey, "empty"},
		"too large":                       {append(bytes.Repeat([]byte("\n"), keyfile.MaxSize), text...), keyfile.ErrNotKey, fmt.Sprint("larger than ", keyfile.MaxSize)},
		"no END line and half the key":    {append(text[:800:800], "\n"...), keyfile.ErrNotKey, "no END PRIVATE KEY line"},
		"bad character":                   {bytes.Replace(text, []byte("MII"), []byte("M*I"), 1), keyfile.ErrNotKey, "'*' (U+002A) in line 2, column 2"},
		"PuTTY's format":                  {[]byte("PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none\n"), keyfile.ErrNotKey, "PuTTY's own format"},
		"JSON Web Key":                    {[]byte(`{"kty":"RSA","n":"AQAB"}`), keyfile.ErrNotKey, "JSON Web Key"},
		"PKCS#12":                         {[]byte("\x30\x80\x02\x01\x03\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01\xa0"), keyfile.ErrNotKey, "PKCS#12"},
		"Java KeyStore":                   {testkey.Base64([]byte("\xfe\xed\xfe\xed\x00\x00\x00\x02")), keyfile.ErrNotKey, "Java KeyStore"},
		"ARN":                             {[]byte("arn:aws:ssm:eu-west-1:123456789012:parameter/app/key"), keyfile.ErrNotKey, "names a place"},
		"spreadsheet's error":             {[]byte("#NAME?"), keyfile.ErrNotKey, "value is missing"},
		"OpenSSH's format":                {encodePEM("OPENSSH PRIVATE KEY", der), keyfile.ErrNotKey, "ssh-keygen -p -m PKCS8"},
		"label as long as a text":         {encodePEM(strings.Repeat("SECRET ", 20)+"PRIVATE KEY", der), keyfile.ErrNotKey, ""},
		"encrypted":                       {encrypted, keyfile.ErrEncrypted, ""},
		"encrypted, labelled as it isn't": {bytes.ReplaceAll(encrypted, []byte("ENCRYPTED PRIVATE"), []byte("PRIVATE")), keyfile.ErrEncrypted, ""},
		"encrypted, certificate before":   {slices.Concat(cert, encrypted), keyfile.ErrEncrypted, ""},
		"encrypted, byte order mark":      {append([]byte("\ufeff"), encrypted...), keyfile.ErrEncrypted, ""},
		"encrypted, base64":               {content(t, testdata+"body-alone"), keyfile.ErrEncrypted, ""},
		"encrypted the traditional way":   {content(t, testdata+"traditional-encryption"), keyfile.ErrEncrypted, ""},
		"EC":                              {content(t, testdata+"ec"), keyfile.ErrNotRSA, ""},
		"EC, SEC 1":                       {content(t, testdata+"ec-sec1"), keyfile.ErrNotRSA, ""},
		"Ed25519":                         {content(t, testdata+"ed25519"), keyfile.ErrNotRSA, ""},
		"RSA-PSS":                         {content(t, testdata+"rsa-pss"), keyfile.ErrNotRSA, ""},
		"1024 bits":                       {content(t, testdata+"rsa-1024"), keyfile.ErrTooShort, "it has 1024"},
	} {
		t.Run(name, func(t *testing.T) {
			key, err := keyfile.Parse(tc.data)
			if key != nil || !errors.Is(err, tc.want) {
				t.Fatalf("key %v, error %v, want %v", key, err, tc.want)
			}
			if !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error %q lacks %q", err, tc.says)
			}
			if strings.Contains(err.Error(), "SECRET") {
				t.Errorf("error %q repeats its input", err)
			}
			const piece = 12
			for i := 0; i+piece <= len(tc.data); i++ {
				if p := tc.data[i : i+piece]; !bytes.ContainsAny(p, " -") && bytes.Contains([]byte(err.Error()), p) {
					t.Fatalf("error %q repeats %q", err, p)
				}
			}
		})
	}
}
