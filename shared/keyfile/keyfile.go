// Package keyfile is the contract between the process that publishes a Snowflake key and the
// programs that read it: file names, formats, what counts as a valid key, its fingerprint, and the
// shape of status.json. docs/contract.md says the same in prose.
//
// A key is read from a path: a file, or a socket, which is read to its end.
//
// [Read] also reads keys that other tools wrote, in the forms that [Inspect] lists; the sidecar reads
// what it fetches with the same code.
//
// It never writes a file, never uses the network, never decrypts a key, and never puts any part of a key
// into an error. It imports the standard library only.
package keyfile

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// The default key directory and the names in it.
const (
	DefaultDir        = "/run/snowflake"
	StatusName        = "status.json"
	RefreshSocketName = "refresh.sock"
	LockName          = "sidecar.lock"

	RefusedPrefix = "refused-" // of a file for each sidecar that is refused
)

// The files by which Snowflake's clients connect by name, if SNOWFLAKE_HOME is the directory. The mark is the first line
// of both: a file without it is somebody else's.
const (
	ConnectionsName  = "connections.toml"
	ClientConfigName = "config.toml"
	ConnectionsMark  = "# snowkey writes this file: changes are lost."
)

// A Format is a form in which a key is written to disk, one of [Formats]. [ParseFormat] makes one of a name.
type Format string

// The formats. Their values are those of the sidecar's --formats.
const (
	DER    Format = "der"     // unencrypted PKCS#8, binary
	PEM    Format = "pem"     // unencrypted PKCS#8 in PEM, type "PRIVATE KEY"
	B64    Format = "b64"     // DER in standard base64, one line
	PEMB64 Format = "pem.b64" // PEM in standard base64, one line
)

// Formats are all formats.
var Formats = []Format{DER, PEM, B64, PEMB64}

// ParseFormat returns the format of that name. A name that is not one of [Formats] is an error.
func ParseFormat(name string) (Format, error) {
	f := Format(name)
	if !slices.Contains(Formats, f) {
		return "", noSuchFormat(f)
	}
	return f, nil
}

// FileName returns the name of the format's file in a key directory, e.g. "rsa_key.der". Like [Format.Encode] it
// panics for an unknown format.
func (f Format) FileName() string {
	if _, err := ParseFormat(string(f)); err != nil {
		panic("keyfile: " + err.Error())
	}
	return "rsa_key." + string(f)
}

// SocketName returns the name of the socket beside the format's file, e.g. "rsa_key.der.sock", which gives what the
// file would hold to each program that connects. Like [Format.Encode] it panics for an unknown format.
func (f Format) SocketName() string { return f.FileName() + ".sock" }

// Encode returns the content of k's file in this format. [Parse] reads it back as an equal key.
//
// Encode panics for a format that is none of [Formats], as crypto.Hash does: [ParseFormat] refuses it with an error
// where it comes from outside the program, and no key may be written in a form that its reader does not expect.
func (f Format) Encode(k *Key) []byte {
	switch der := k.der(); f {
	case DER:
		return bytes.Clone(der)
	case PEM:
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	case B64:
		return base64Line(der)
	case PEMB64:
		text := PEM.Encode(k)
		defer clear(text)
		return base64Line(text)
	default:
		panic("keyfile: " + noSuchFormat(f).Error())
	}
}

func base64Line(data []byte) []byte {
	line := make([]byte, 0, base64.StdEncoding.EncodedLen(len(data))+len("\n")) // no smaller copy is left behind
	return append(base64.StdEncoding.AppendEncode(line, data), '\n')
}

func noSuchFormat(f Format) error {
	var names []string
	for _, known := range Formats {
		names = append(names, string(known))
	}
	return fmt.Errorf("no such format %q: use one of %s", string(f), strings.Join(names, ", "))
}

// The errors of [Read], [ReadBytes] and [Parse], for errors.Is. A file that does not exist is fs.ErrNotExist,
// and one without read permission fs.ErrPermission.
var (
	ErrNotKey     = errors.New("not a private key in a supported form")
	ErrEncrypted  = errors.New("key is encrypted")
	ErrNotRSA     = errors.New("not an RSA key: Snowflake takes RSA only")
	ErrTooShort   = fmt.Errorf("RSA key shorter than %d bits: Snowflake refuses it", MinBits)
	ErrTooLong    = fmt.Errorf("RSA key longer than %d bits: it would make every login slow", MaxBits)
	ErrMultiPrime = errors.New("RSA key of more than two primes: the Snowflake drivers of Python and Java cannot read it")
	ErrNotPrime   = errors.New("RSA key whose primes are not prime: Snowflake refuses what it signs")
	ErrNotRegular = errors.New("not a regular file")
)

// Read reads the key at path, a file or a socket, in any form that [Parse] reads. It gives a complete, valid key or an
// error that names path. It takes at most [SocketTimeout], and that only of a socket.
func Read(path string) (*Key, error) { return ReadContext(context.Background(), path) }

// ReadContext is [Read] for a caller that waits for a socket only until ctx ends.
func ReadContext(ctx context.Context, path string) (*Key, error) {
	data, err := ReadBytes(ctx, path)
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

// ReadBytes reads the content of the key file at path, or a socket to its end, at most [MaxSize] bytes, for a caller
// that compares it before parsing it. ctx bounds the wait for a socket, as [SocketTimeout] does. [ErrNotRegular] is its
// error for e.g. a FIFO, on which a reader would hang. Data may be there beside an error: clear it in any case.
func ReadBytes(ctx context.Context, path string) (data []byte, err error) {
	data, err = readRegular(path)
	if err != nil && isSocket(path) { // which cannot be opened as a file
		data, err = readSocket(ctx, path)
	}
	if errors.Is(err, errTooLarge) {
		err = fmt.Errorf("%w: %w", ErrNotKey, err)
	}
	return data, err
}

// readRegular reads a regular file. The file at path can be anything.
func readRegular(path string) ([]byte, error) {
	f, err := open(path)
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
	return readAll(path, f)
}

var errTooLarge = fmt.Errorf("larger than %d bytes", MaxSize)

// readAll reads at most MaxSize bytes.
func readAll(path string, r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return data, err
	}
	if len(data) > MaxSize {
		return data, fmt.Errorf("%s: %w", path, errTooLarge)
	}
	return data, nil
}

// Parse reads the content of a key file: any [Format], and any unencrypted form that [Inspect] lists. Its
// errors are [ErrEncrypted], [ErrNotRSA], [ErrTooShort], [ErrTooLong], [ErrMultiPrime], [ErrNotPrime]
// and [ErrNotKey]. It does not change data.
func Parse(data []byte) (*Key, error) {
	content := Inspect(data)
	defer content.Clear()
	return content.Key()
}
