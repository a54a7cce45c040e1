package keyfile_test

import (
	"testing"

	"github.com/snowkey/snowkey/internal/testkey"
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

func panics(f func()) (panicked bool) {
	defer func() { panicked = recover() != nil }()
	f()
	return false
}
