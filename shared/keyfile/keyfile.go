// Package keyfile is the contract between the process that publishes a Snowflake key and the
// programs that read it: file names, formats, what counts as a valid key, its fingerprint, and the
// shape of status.json. docs/contract.md says the same in prose.
//
// It reads files and never writes one, never reaches the network, and never decrypts anything.
package keyfile

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// The names in a key directory.
const (
	DefaultDir = "/run/snowflake"
	StatusName = "status.json"
	SocketName = "refresh.sock"
)

// maxFileSize bounds what Read takes in: an RSA key of 16384 bits is 9.2 KB as DER.
const maxFileSize = 64 << 10

// A Format is one way a key is written to disk.
type Format string

// The formats, by the name that the sidecar's --formats takes.
const (
	DER Format = "der" // unencrypted PKCS#8, binary
	PEM Format = "pem" // the same, PEM "PRIVATE KEY"
	B64 Format = "b64" // the same, one line of standard base64
)

// Formats are all the formats there are.
var Formats = []Format{DER, PEM, B64}

// FileName is the name of the format's file in a key directory.
func (f Format) FileName() string { return "rsa_key." + string(f) }

// Encode gives the bytes of k's file in this format.
func (f Format) Encode(k *Key) []byte {
	der := k.der()
	switch f {
	case PEM:
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	case B64:
		return append(base64.StdEncoding.AppendEncode(nil, der), '\n')
	default:
		return bytes.Clone(der)
	}
}

// Errors of Read and Parse that a caller may want to tell apart. A file that does not exist is
// fs.ErrNotExist.
var (
	ErrNotKey     = errors.New("not a PKCS#8 private key")
	ErrEncrypted  = errors.New("key is encrypted")
	ErrNotRSA     = errors.New("not an RSA key: Snowflake takes RSA only")
	ErrTooShort   = fmt.Errorf("RSA key shorter than %d bits: Snowflake refuses it", MinBits)
	ErrNotRegular = errors.New("not a regular file")
)

// Read reads a key file in any of the formats. The answer is a complete, valid key or an error.
func Read(path string) (*Key, error) {
	data, err := ReadBytes(path)
	defer clear(data)
	if err != nil {
		return nil, err
	}
	key, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// ReadBytes reads what is in a key file, for a caller that compares before it parses. It refuses
// what is no regular file, a FIFO for instance, on which a reader would hang.
func ReadBytes(path string) ([]byte, error) {
	data, err := readRegular(path)
	if errors.Is(err, errTooLarge) {
		err = fmt.Errorf("%w: %w", ErrNotKey, err)
	}
	return data, err
}

var errTooLarge = fmt.Errorf("larger than %d bytes", maxFileSize)

// readRegular reads a file that anybody may have put there.
func readRegular(path string) ([]byte, error) {
	// Whoever opens a pipe waits for its other end, unless he asks not to.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w", path, ErrNotRegular)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return data, err
	}
	if len(data) > maxFileSize {
		return data, fmt.Errorf("%s: %w", path, errTooLarge)
	}
	return data, nil
}

// Parse takes the content of a key file in any of the formats.
func Parse(data []byte) (*Key, error) {
	if len(data) == 0 {
		return nil, fmt.Errorf("%w: empty", ErrNotKey)
	}
	if block, _ := pem.Decode(data); block != nil {
		return parsePEM(block)
	}
	if der, ok := decodeBase64(data); ok {
		return FromDER(der)
	}
	return FromDER(data)
}

func parsePEM(block *pem.Block) (*Key, error) {
	switch block.Type {
	case "PRIVATE KEY":
		return FromDER(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		return nil, ErrEncrypted
	default:
		return nil, fmt.Errorf("%w: PEM type %q", ErrNotKey, block.Type)
	}
}

// decodeBase64 tells base64 text from DER, whose first byte (0x30, the digit 0) both can have:
// DER is never base64 throughout.
func decodeBase64(data []byte) ([]byte, bool) {
	der, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(data)))
	return der, err == nil
}
