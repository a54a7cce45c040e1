package keyfile_test

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
)

func TestFormat_UnknownIsRefused(t *testing.T) {
	for _, name := range []string{"", "DER", "der ", "p12", "../x"} {
		if f, err := keyfile.ParseFormat(name); err == nil || f != "" {
			t.Errorf("%q is parsed as %q", name, f)
		}
		for what, use := range map[string]func(keyfile.Format){
			"Encode":   func(f keyfile.Format) { f.Encode(testkey.Key(0)) },
			"FileName": func(f keyfile.Format) { f.FileName() },
		} {
			if !panics(func() { use(keyfile.Format(name)) }) {
				t.Errorf("%s takes %q", what, name)
			}
		}
	}
	for _, f := range keyfile.Formats {
		if parsed, err := keyfile.ParseFormat(string(f)); err != nil || parsed != f {
			t.Errorf("%s is parsed as %q, %v", f, parsed, err)
		}
	}
}

// Other programs decode the base64 of a PEM with a strict decoder, so it is one line and nothing else.
func TestFormat_PEMB64IsTheBase64OfThePEM(t *testing.T) {
	line, rest, ended := strings.Cut(string(keyfile.PEMB64.Encode(testkey.Key(0))), "\n")
	if !ended || rest != "" {
		t.Fatal("it is not one line")
	}
	text, err := base64.StdEncoding.Strict().DecodeString(line)
	if err != nil || !bytes.Equal(text, keyfile.PEM.Encode(testkey.Key(0))) {
		t.Errorf("it is not the PEM: %v", err)
	}
	if name := keyfile.PEMB64.FileName(); name != "rsa_key.pem.b64" {
		t.Errorf("its file is %s", name)
	}
}

func panics(f func()) (panicked bool) {
	defer func() { panicked = recover() != nil }()
	f()
	return false
}
