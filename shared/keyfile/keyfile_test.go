package keyfile_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
)

// testdata has the files that openssl wrote for the sidecar's tests; decrypt_test.go there has the recipes.
const testdata = "../../sidecar/internal/decrypt/testdata/"

func TestRead_Formats(t *testing.T) {
	key := testkey.Key(0)
	for _, f := range keyfile.Formats {
		t.Run(string(f), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), f.FileName())
			if err := os.WriteFile(path, f.Encode(key), 0o600); err != nil {
				t.Fatal(err)
			}
			read, err := keyfile.Read(path)
			if err != nil {
				t.Fatal(err)
			}
			if !read.Equal(key) || read.Fingerprint() != key.Fingerprint() {
				t.Errorf("read %v, wrote %v", read, key)
			}
		})
	}
}

// The pair is from the openssl program: openssl pkey -pubout -outform DER | openssl dgst -sha256 -binary | openssl enc -base64
func TestFingerprint_AsOpenSSL(t *testing.T) {
	want, err := os.ReadFile(testdata + "rsa.fingerprint")
	if err != nil {
		t.Fatal(err)
	}
	key, err := keyfile.Read(testdata + "rsa.pem")
	if err != nil {
		t.Fatal(err)
	}
	if got := key.Fingerprint(); got != "SHA256:"+strings.TrimSpace(string(want)) {
		t.Errorf("fingerprint %s, openssl says %s", got, want)
	}
}

func TestParse_NotAKey(t *testing.T) {
	whole := keyfile.DER.Encode(testkey.Key(0))
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecDER, err := x509.MarshalPKCS8PrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	shortDER, err := x509.MarshalPKCS8PrivateKey(short)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		data []byte
		want error
	}{
		"empty":         {nil, keyfile.ErrNotKey},
		"text":          {[]byte("hello"), keyfile.ErrNotKey},
		"half a key":    {whole[:len(whole)/2], keyfile.ErrNotKey},
		"EC":            {ecDER, keyfile.ErrNotRSA},
		"1024 bits":     {shortDER, keyfile.ErrTooShort},
		"encrypted PEM": {content(t, testdata+"aes256.p8"), keyfile.ErrEncrypted},
		"public PEM":    {pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: whole}), keyfile.ErrNotKey},
	} {
		t.Run(name, func(t *testing.T) {
			if key, err := keyfile.Parse(tc.data); !errors.Is(err, tc.want) || key != nil {
				t.Errorf("key %v, error %v, want %v", key, err, tc.want)
			}
		})
	}
}

func content(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestKey_PrintsAsFingerprint(t *testing.T) {
	key := testkey.Key(0)
	holder := struct {
		Key    *keyfile.Key
		hidden *keyfile.Key
	}{key, key}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+"\n", key)
		fmt.Fprintf(&out, verb+"\n", holder)
		fmt.Fprintf(&out, verb+"\n", &holder)
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "key", key, "holder", holder)
	if err := json.NewEncoder(&out).Encode(holder); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), key.Fingerprint()) {
		t.Error("the fingerprint is nowhere in the output")
	}
	d := key.RSA().D
	der := keyfile.DER.Encode(key)
	for name, secret := range map[string]string{
		"decimal": d.String(), "hex": d.Text(16),
		"base64":        base64.StdEncoding.EncodeToString(der)[100:200],
		"list of bytes": strings.Trim(fmt.Sprint(der[100:120]), "[]"),
	} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("the key is in the output, as %s", name)
		}
	}
}

func TestReadStatus_Roundtrip(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	wrote := keyfile.Status{
		Schema: keyfile.StatusSchema, Fingerprint: "SHA256:x", Source: "/app/key", Version: "3", PublishedAt: at, CheckedAt: at,
		Filesystem: "tmpfs", LastError: &keyfile.LastError{Class: keyfile.ClassNetwork, At: at},
	}
	dir := t.TempDir()
	data, err := json.Marshal(wrote)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, keyfile.StatusName), data, 0o600); err != nil {
		t.Fatal(err)
	}
	read, err := keyfile.ReadStatus(dir)
	if err != nil {
		t.Fatal(err)
	}
	if *read.LastError != *wrote.LastError {
		t.Errorf("read %v, wrote %v", read.LastError, wrote.LastError)
	}
	read.LastError, wrote.LastError = nil, nil
	if !reflect.DeepEqual(read, wrote) {
		t.Errorf("read %+v, wrote %+v", read, wrote)
	}
}

func FuzzParse(f *testing.F) {
	for _, format := range keyfile.Formats {
		f.Add(format.Encode(testkey.Key(0)))
	}
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"))
	for _, form := range forms(f) {
		f.Add(form)
	}
	for _, name := range []string{"aes256.p8", "certificate", "ec-sec1", "public-key-body", "traditional-encryption", "truncated"} {
		data, err := os.ReadFile(testdata + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		key, err := keyfile.Parse(data)
		if (key == nil) == (err == nil) {
			t.Fatalf("key %v and error %v", key, err)
		}
		if !bytes.Equal(data, before) {
			t.Fatal("the input has changed")
		}
		if err != nil {
			for _, known := range []error{keyfile.ErrNotKey, keyfile.ErrEncrypted, keyfile.ErrNotRSA, keyfile.ErrTooShort,
				keyfile.ErrTooLong, keyfile.ErrMultiPrime, keyfile.ErrNotPrime} {
				if errors.Is(err, known) {
					return
				}
			}
			t.Fatalf("error %v is none of the package's", err)
		}
		if n := key.RSA().N.BitLen(); n < 2048 {
			t.Fatalf("a key of %d bits is accepted", n)
		}
		for _, format := range keyfile.Formats {
			again, err := keyfile.Parse(format.Encode(key))
			if err != nil || !again.Equal(key) {
				t.Fatalf("written as %s it is read as %v, %v", format, again, err)
			}
		}
	})
}

func FuzzParseStatus(f *testing.F) {
	f.Add([]byte(`{"schema": 1, "fingerprint": "SHA256:x", "source": "/app/key", "published_at": "2026-01-02T03:04:05.006Z",
		"filesystem": "tmpfs", "last_error": {"class": "network", "at": "2026-01-02T03:04:05Z"}}`))
	f.Add([]byte(`{"schema": 99}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, data []byte) {
		read, err := keyfile.ParseStatus(data)
		if err != nil {
			return
		}
		written, err := json.Marshal(read)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		again, err := keyfile.ParseStatus(written)
		if err != nil || again.Fingerprint != read.Fingerprint || !again.CheckedAt.Equal(read.CheckedAt) {
			t.Fatalf("%+v was read back as %+v, %v", read, again, err)
		}
	})
}
