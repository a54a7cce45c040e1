package e2e

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
)

const (
	// publicPart is what a PKCS#8 key of 2048 bits begins with: headers, modulus, exponent. Anybody may see it.
	publicPart = 312
	// piece is how much of the rest is looked for at a time. A line of PEM has two.
	piece = 24
	// anchor is how much of a needle is looked up at once.
	anchor = 8
)

// A search finds private keys, whole or in part, in the forms in which they could leak.
type search struct {
	needles map[uint64][]needle // by their first bytes
	starts  [1 << 18]bool       // hashes of what a needle begins with: most bytes of a disk end there
	longest int
}

type needle struct {
	form string
	text []byte
}

func newSearch() *search { return &search{needles: map[uint64][]needle{}} }

// key adds an unencrypted PKCS#8 key.
func (s *search) key(der []byte) {
	for at := publicPart; at+piece+2 <= len(der); at += piece {
		part := der[at : at+piece]
		s.add("DER", string(part))
		s.add("hex", hex.EncodeToString(part))
		s.add("hex", strings.ToUpper(hex.EncodeToString(part)))
		// In base64 the same bytes have one of three forms, by where they begin.
		for shift := range 3 {
			part := der[at+shift : at+shift+piece]
			s.add("base64", base64.StdEncoding.EncodeToString(part))
			s.add("base64", base64.URLEncoding.EncodeToString(part))
		}
	}
}

func (s *search) add(form, text string) {
	n := needle{form, []byte(text)}
	first := binary.LittleEndian.Uint64(n.text)
	s.needles[first] = append(s.needles[first], n)
	s.starts[hash(n.text)] = true
	s.longest = max(s.longest, len(n.text))
}

// in reports in which form r holds a part of a key, "" if it does not.
func (s *search) in(r io.Reader) (form string, err error) {
	buffer := make([]byte, 0, 1<<20)
	for {
		n, err := io.ReadFull(r, buffer[len(buffer):cap(buffer)])
		buffer = buffer[:len(buffer)+n]
		if form := s.inBytes(buffer); form != "" {
			return form, nil
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		kept := copy(buffer, buffer[len(buffer)-s.longest:]) // a needle may lie across the border
		buffer = buffer[:kept]
	}
}

func (s *search) inBytes(data []byte) string {
	for i := 0; i+anchor <= len(data); i++ {
		if !s.starts[hash(data[i:])] {
			continue
		}
		for _, n := range s.needles[binary.LittleEndian.Uint64(data[i:])] {
			if bytes.HasPrefix(data[i:], n.text) {
				return n.form
			}
		}
	}
	return ""
}

// hash spreads the first four bytes over 18 bits.
func hash(text []byte) uint32 { return binary.LittleEndian.Uint32(text) * 2654435761 >> 14 }

// inArchive looks into every file of a tar archive, and into what is compressed or an archive itself, as
// the layers of an image are.
func (s *search) inArchive(r io.Reader) (found []string, err error) {
	for archive := tar.NewReader(r); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return found, err
		}
		var content io.Reader = bufio.NewReader(archive)
		if magic, _ := content.(*bufio.Reader).Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
			if content, err = gzip.NewReader(content); err != nil {
				return found, err
			}
		}
		form, err := s.in(content)
		if err != nil {
			return found, fmt.Errorf("%s: %w", header.Name, err)
		}
		if form != "" {
			found = append(found, header.Name+" has it in "+form)
		}
	}
}

// onDisk looks into every file below root that is on the same filesystem and was touched since: one that
// was not cannot hold a key that is younger.
func (s *search) onDisk(root string, since time.Time) (found []string, err error) {
	top, err := os.Stat(root)
	if err != nil {
		return nil, err
	}
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // an engine at work
			return nil
		}
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if entry.IsDir() && device(info) != device(top) {
			return fs.SkipDir
		}
		change := info.Sys().(*syscall.Stat_t).Ctim
		if !info.Mode().IsRegular() || time.Unix(change.Unix()).Before(since) {
			return nil
		}
		form, err := s.inFile(path)
		if form != "" {
			found = append(found, path+" has it in "+form)
		}
		return err
	})
	return found, err
}

func device(info fs.FileInfo) uint64 { return info.Sys().(*syscall.Stat_t).Dev }

func (s *search) inFile(path string) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	return s.in(f)
}

// The search is worth nothing if it cannot find: here it has to.
func TestSearch_FindsAKeyInEachForm(t *testing.T) {
	testenv.Heavy(t)
	key := testkey.Key(0)
	der := keyfile.DER.Encode(key)
	wrapped := func(columns int) []byte {
		var lines []string
		for line := range slices.Chunk([]byte(base64.StdEncoding.EncodeToString(der)), columns) {
			lines = append(lines, string(line))
		}
		return []byte(strings.Join(lines, "\n"))
	}
	s := newSearch()
	s.key(testkeyDER(1)) // another key beside it
	s.key(der)
	for name, leak := range map[string][]byte{
		"DER":                 der,
		"PEM":                 keyfile.PEM.Encode(key),
		"PEM in JSON":         bytes.ReplaceAll(keyfile.PEM.Encode(key), []byte("\n"), []byte(`\n`)),
		"base64":              keyfile.B64.Encode(key),
		"base64, 76 columns":  wrapped(76),
		"base64 for URLs":     []byte(base64.RawURLEncoding.EncodeToString(der)),
		"base64, 1 byte off":  []byte(base64.StdEncoding.EncodeToString(der[1:])),
		"base64, 2 bytes off": []byte(base64.StdEncoding.EncodeToString(der[2:])),
		"hex":                 []byte(hex.EncodeToString(der)),
		"HEX":                 []byte(strings.ToUpper(hex.EncodeToString(der))),
		"a quarter of it":     der[len(der)/2 : len(der)*3/4],
	} {
		for _, before := range []int{0, 1, 1<<20 - 700, 1<<20 - 40, 3 << 20} {
			form, err := s.in(bytes.NewReader(slices.Concat(make([]byte, before), leak, make([]byte, 100))))
			if err != nil || form == "" {
				t.Errorf("%s after %d bytes: not found, %v", name, before, err)
			}
		}
	}
	for name, innocent := range map[string][]byte{
		"the public part": der[:publicPart],
		"another key":     testkeyDER(2),
	} {
		if form, err := s.in(bytes.NewReader(innocent)); err != nil || form != "" {
			t.Errorf("%s is called a leak in %q, %v", name, form, err)
		}
	}
}

func testkeyDER(n int) []byte { return keyfile.DER.Encode(testkey.Key(n)) }

func TestSearch_OpensLayers(t *testing.T) {
	layer := tarball(t, "etc/key", keyfile.PEM.Encode(testkey.Key(0)))
	var compressed bytes.Buffer
	zip := gzip.NewWriter(&compressed)
	if _, err := zip.Write(layer); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	s := newSearch()
	s.key(testkeyDER(0))
	for name, content := range map[string][]byte{"plain": layer, "compressed": compressed.Bytes()} {
		found, err := s.inArchive(bytes.NewReader(tarball(t, "layer.tar", content)))
		if err != nil || len(found) != 1 {
			t.Errorf("%s: found %q, %v", name, found, err)
		}
	}
}

func tarball(t *testing.T, name string, content []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestSearch_DiskLeavesOutWhatIsNotOnIt(t *testing.T) {
	s := newSearch()
	s.key(testkeyDER(0))
	dir, since := t.TempDir(), time.Now().Add(-time.Second)
	if err := os.WriteFile(filepath.Join(dir, "key"), testkeyDER(0), 0o600); err != nil {
		t.Fatal(err)
	}
	if found, err := s.onDisk(dir, since); err != nil || len(found) != 1 {
		t.Errorf("found %q, %v", found, err)
	}
	if found, err := s.onDisk(dir, time.Now().Add(time.Second)); err != nil || len(found) != 0 {
		t.Errorf("found %q, %v", found, err)
	}
	if os.Getuid() != 0 {
		t.Skip("mount(2) is for root only")
	}
	err := syscall.Mount("snowkey-test", dir, "tmpfs", 0, "")
	if errors.Is(err, syscall.EPERM) {
		t.Skip("mount(2) needs CAP_SYS_ADMIN")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	if err := os.WriteFile(filepath.Join(dir, "key"), testkeyDER(0), 0o600); err != nil {
		t.Fatal(err)
	}
	if found, err := s.onDisk(filepath.Dir(dir), since); err != nil || len(found) != 0 {
		t.Errorf("found %q, %v", found, err)
	}
}
