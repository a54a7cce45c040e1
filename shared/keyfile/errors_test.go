package keyfile_test

import (
	"crypto/rsa"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/internal/keytext"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
)

// The errors that only some systems and sockets give are in irregular_unix_test.go and socket_test.go, those of Parse in
// inspect_test.go and rsa_test.go.
func TestRead_Errors(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("hello"), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, tc := range map[string]struct {
		path string
		want error
	}{
		"no file":       {filepath.Join(dir, "none"), fs.ErrNotExist},
		"no permission": {write("secret", 0), fs.ErrPermission},
		"directory":     {dir, keyfile.ErrNotRegular},
		"not a key":     {write("text", 0o600), keyfile.ErrNotKey},
	} {
		t.Run(name, func(t *testing.T) {
			if errors.Is(tc.want, fs.ErrPermission) && os.Getuid() == 0 {
				t.Skip("root may read every file")
			}
			if key, err := keyfile.Read(tc.path); key != nil || !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.path) {
				t.Errorf("key %v, error %v", key, err)
			}
		})
	}
}

func TestReadBytes_ErrorGivesNoData(t *testing.T) {
	large := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(large, make([]byte, keyfile.MaxSize+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if data, err := keyfile.ReadBytes(t.Context(), large); data != nil || !errors.Is(err, keyfile.ErrNotKey) {
		t.Errorf("%d bytes, error %v", len(data), err)
	}
}

func TestFromRSA_InconsistentNumbers(t *testing.T) {
	key := *testkey.Key(0).RSA()
	key.D = new(big.Int).Add(key.D, big.NewInt(2))
	key.Precomputed = rsa.PrecomputedValues{}
	if _, err := keyfile.FromRSA(&key); !errors.Is(err, keyfile.ErrNotKey) {
		t.Errorf("error %v", err)
	}
}

func TestFromDER_Errors(t *testing.T) {
	for name, tc := range map[string]struct {
		der  []byte
		want error
	}{
		"not DER": {[]byte("hello"), keyfile.ErrNotKey},
		"Ed25519": {keytext.Inspect(content(t, testdata+"ed25519")).DER(), keyfile.ErrNotRSA},
	} {
		t.Run(name, func(t *testing.T) {
			if key, err := keyfile.FromDER(tc.der); key != nil || !errors.Is(err, tc.want) {
				t.Errorf("key %v, error %v", key, err)
			}
		})
	}
}

func TestReadStatus_Errors(t *testing.T) {
	if _, err := keyfile.ReadStatus(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: error %v", err)
	}
	for name, tc := range map[string]struct {
		content string
		want    error
	}{
		"no JSON":              {"hello", keyfile.ErrNotStatus},
		"a field's type":       {`{"schema": "1"}`, keyfile.ErrNotStatus},
		"no schema":            {`{}`, keyfile.ErrUnknownSchema},
		"schema of the future": {`{"schema": 99}`, keyfile.ErrUnknownSchema},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, keyfile.StatusName), []byte(tc.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := keyfile.ReadStatus(dir); !errors.Is(err, tc.want) || !strings.Contains(err.Error(), keyfile.StatusName) {
				t.Errorf("error %v", err)
			}
		})
	}
}
