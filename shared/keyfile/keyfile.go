// Package keyfile reads the Snowflake key that snowkey's sidecar publishes: from a file, or from a Unix socket that gives
// the key to each program that connects. [Read] takes the path of either:
//
//	key, err := keyfile.Read("/run/snowflake/rsa_key.der")
//	if err != nil {
//		return err
//	}
//	sign(key.RSA())
//
// A program that keeps its key for longer than one login uses the package keywatch, which follows the file. A program
// that queries Snowflake uses the package snowkey, which needs neither.
//
// The package also defines what the sidecar and the readers have in common: the names of the files, the [Format] of
// each key file, what counts as a valid key, its fingerprint, and the [Status] in status.json. docs/contract.md describes
// the same in prose.
//
// # Which keys it reads
//
// [Read] and [Parse] read the formats that the sidecar writes, and keys as other tools write them and as people paste
// them: [Parse] lists them. A valid key is an unencrypted RSA key of [MinBits] to [MaxBits] with two primes.
//
// # Rotation
//
// The sidecar replaces a key file by rename, so a reader gets the whole old key or the whole new one, never a mixture.
// A reader that fails keeps the key that it has and tries again: the new key may not be there yet.
//
// # Errors
//
// Each function lists its errors, for use with [errors.Is]:
//
//   - [fs.ErrNotExist]: there is no file or socket yet
//   - [fs.ErrPermission]: the program's user may not read it
//   - [ErrNotRegular]: something else is at the path, e.g. a directory
//   - [ErrNotServed], and as a case of it [ErrSocketClosed]: the socket gives no key
//   - [ErrNotKey], [ErrEncrypted], [ErrNotRSA], [ErrTooShort], [ErrTooLong], [ErrMultiPrime], [ErrNotPrime]: the content
//     is not a valid key
//   - [ErrNotStatus], [ErrUnknownSchema]: a status.json cannot be read
//
// # Concurrency
//
// All functions may be called from several goroutines, and a [Key] may be shared by them.
//
// # What it never does
//
// It never writes a file, never uses the network, never decrypts a key, and never puts any part of a key into an error.
// It needs the standard library only.
package keyfile

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/snowkey/snowkey/internal/keytext"
)

// The default key directory, and the names that a reader uses in it. [Format.FileName] and [Format.SocketName] are those of
// the keys.
const (
	DefaultDir        = "/run/snowflake"
	StatusName        = "status.json"  // see Status
	RefreshSocketName = "refresh.sock" // a connection to it makes the sidecar check for a newer key
)

// MaxSize is the size in bytes, 64 KiB, of the largest key file, key text or status.json that is read. A key of [MaxBits] has
// 4.7 KB as DER; the file may also hold certificates.
const MaxSize = keytext.MaxSize

// A Format is a form in which the sidecar writes a key. It is one of [Formats]; [ParseFormat] checks a name.
type Format string

// The formats. Their values are those of the sidecar's --formats.
const (
	DER    Format = "der"     // unencrypted PKCS#8, binary
	PEM    Format = "pem"     // unencrypted PKCS#8 in PEM, type "PRIVATE KEY"
	B64    Format = "b64"     // DER in standard base64, one line
	PEMB64 Format = "pem.b64" // PEM in standard base64, one line
)

// Formats are all formats. Do not change it.
var Formats = []Format{DER, PEM, B64, PEMB64}

// ParseFormat returns the format with this name, e.g. "pem.b64". Its only error is that no format has the name.
func ParseFormat(name string) (Format, error) {
	f := Format(name)
	if !slices.Contains(Formats, f) {
		return "", noSuchFormat(f)
	}
	return f, nil
}

// FileName returns the name of the format's file in a key directory, e.g. "rsa_key.der". It panics if f is not one of
// [Formats].
func (f Format) FileName() string {
	if _, err := ParseFormat(string(f)); err != nil {
		panic("keyfile: " + err.Error())
	}
	return "rsa_key." + string(f)
}

// SocketName returns the name of the socket in a key directory that gives the content of the format's file to each program
// that connects, e.g. "rsa_key.der.sock". It panics if f is not one of [Formats].
func (f Format) SocketName() string { return f.FileName() + ".sock" }

// Encode returns the content of k's file in this format. [Parse] reads it back as an equal key. The result is unencrypted:
// clear it after use.
//
// Encode panics if f is not one of [Formats], so that no key is written in a form that its reader does not expect. Use
// [ParseFormat] for a name from outside the program.
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

// The errors of [Parse] for content that is not a valid key. Each error is exactly one of them.
var (
	// ErrNotKey: the content holds no private key, or not the whole of it. The message says what was found.
	ErrNotKey = errors.New("not a private key in a supported form")
	// ErrEncrypted: the key needs a passphrase.
	ErrEncrypted = errors.New("key is encrypted")
	// ErrNotRSA: it is a key of another kind, e.g. EC or Ed25519.
	ErrNotRSA = errors.New("not an RSA key: Snowflake takes RSA only")
	// ErrTooShort: the modulus has less than MinBits.
	ErrTooShort = fmt.Errorf("RSA key shorter than %d bits: Snowflake refuses it", MinBits)
	// ErrTooLong: the modulus has more than MaxBits.
	ErrTooLong = fmt.Errorf("RSA key longer than %d bits: it would make every login slow", MaxBits)
	// ErrMultiPrime: the modulus has more than two primes.
	ErrMultiPrime = errors.New("RSA key of more than two primes: the Snowflake drivers of Python and Java cannot read it")
	// ErrNotPrime: a test with a signature shows that the primes are not prime.
	ErrNotPrime = errors.New("RSA key whose primes are not prime: Snowflake refuses what it signs")
)

// ErrNotRegular is the error for a path at which there is neither a regular file nor a socket, e.g. a directory or a FIFO.
var ErrNotRegular = errors.New("not a regular file")

// Read reads the key at path, a file or a socket, in any form that [Parse] reads. It returns a complete, valid key, or an
// error that names path: one of [ReadBytes] or of [Parse]. A file is read at once; a socket may take [SocketTimeout].
func Read(path string) (*Key, error) { return ReadContext(context.Background(), path) }

// ReadContext is [Read], but waits for a socket only until ctx ends. The error is then an [ErrNotServed].
func ReadContext(ctx context.Context, path string) (*Key, error) {
	data, err := ReadBytes(ctx, path)
	if err != nil {
		return nil, err
	}
	defer clear(data)
	key, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// ReadBytes returns the content of the file at path, or what the socket there gives, without parsing it: for a caller that
// first compares it with what it has. ctx and [SocketTimeout] bound the wait for a socket. The caller clears the result.
//
// Its errors name path. They are [fs.ErrNotExist], [fs.ErrPermission] (for a socket, too), [ErrNotRegular], [ErrNotKey] if
// there are more than [MaxSize] bytes, [ErrNotServed] for a socket, and otherwise the system's.
func ReadBytes(ctx context.Context, path string) ([]byte, error) {
	data, err := readRegular(path)
	if err != nil && isSocket(path) { // which cannot be opened as a file
		data, err = readSocket(ctx, path)
	}
	if errors.Is(err, errTooLarge) {
		err = fmt.Errorf("%w: %w", ErrNotKey, err)
	}
	return data, err
}

// readRegular reads a regular file, and does not hang on anything else that may be at path.
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

// readAll reads at most MaxSize bytes. With an error it clears what it has read.
func readAll(path string, r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err == nil && len(data) > MaxSize {
		err = fmt.Errorf("%s: %w", path, errTooLarge)
	}
	if err != nil {
		clear(data)
		return nil, err
	}
	return data, nil
}

// Parse reads the content of a key file: any [Format], and any text that holds an unencrypted key as people paste, escape
// and fold it:
//
//   - DER
//   - PEM, with any line ends or none, with escaped line ends such as "\n" or "%0A" (also escaped several times), with
//     spaces around the lines, and with any number of dashes or none
//   - PEM with text before BEGIN or after END, and with other blocks, e.g. certificates: the first private key counts
//   - the base64 of the DER without BEGIN and END lines, on any number of lines
//   - the DER in hexadecimal, also with colons, spaces, commas, 0x or \x between the bytes
//   - the base64 of any of these, up to three times
//
// base64 may be standard or base64url, padded or not. Text may be UTF-8 or UTF-16, with quotation marks, white space or a
// byte order mark around it. A character that is not base64 is ignored if the DER is complete without it. The form of the
// key comes from the DER, so a wrong label in the BEGIN line does not matter.
//
// Parse does not change data. Its errors are [ErrNotKey], [ErrEncrypted], [ErrNotRSA], [ErrTooShort], [ErrTooLong],
// [ErrMultiPrime] and [ErrNotPrime]. They name the form that was found, and quote nothing of the text but the types of its
// PEM blocks and a character that is no base64.
func Parse(data []byte) (*Key, error) {
	content := keytext.Inspect(data)
	defer content.Clear()
	return keyOf(content)
}

// keyOf returns the private key that was found.
func keyOf(c keytext.Content) (*Key, error) {
	switch c.Form {
	case keytext.FormPKCS8:
		if c.Algorithm != "" && c.Algorithm != keytext.OIDOfRSA {
			return nil, ErrNotRSA
		}
		return FromDER(c.DER())
	case keytext.FormPKCS1:
		if len(c.DER()) > maxDER {
			return nil, ErrTooLong
		}
		private, err := x509.ParsePKCS1PrivateKey(c.DER())
		if err != nil {
			// The cause may quote the key.
			return nil, ErrNotKey
		}
		return FromRSA(private)
	case keytext.FormEncrypted, keytext.FormTraditional:
		return nil, ErrEncrypted
	case keytext.FormEC:
		return nil, ErrNotRSA
	case keytext.FormOpenSSH:
		return nil, fmt.Errorf("%w: it has OpenSSH's own format; convert a copy with ssh-keygen -p -m PKCS8 -f COPY", ErrNotKey)
	case keytext.FormPublic:
		return nil, fmt.Errorf("%w: it is a public key or a certificate", ErrNotKey)
	case keytext.FormNoKey:
		return nil, fmt.Errorf("%w: PEM blocks found: %s", ErrNotKey, strings.Join(c.Types, ", "))
	case keytext.FormNoEnd:
		return nil, fmt.Errorf("%w: truncated, no END %s line", ErrNotKey, c.Type)
	case keytext.FormTruncated:
		return nil, fmt.Errorf("%w: truncated", ErrNotKey)
	case keytext.FormEmpty:
		return nil, fmt.Errorf("%w: empty", ErrNotKey)
	case keytext.FormTooLarge:
		return nil, fmt.Errorf("%w: %w", ErrNotKey, errTooLarge)
	case keytext.FormBadCharacter:
		return nil, fmt.Errorf("%w: %s", ErrNotKey, c.BadCharacterText())
	case keytext.FormPKCS12:
		return nil, fmt.Errorf("%w: it is a PKCS#12 file", ErrNotKey)
	case keytext.FormKeystore:
		return nil, fmt.Errorf("%w: it is a Java KeyStore", ErrNotKey)
	case keytext.FormJWK:
		return nil, fmt.Errorf("%w: it is a JSON Web Key", ErrNotKey)
	case keytext.FormPuTTY:
		return nil, fmt.Errorf("%w: it has PuTTY's own format", ErrNotKey)
	case keytext.FormCiphertext:
		return nil, fmt.Errorf("%w: it is ciphertext of KMS, SOPS or Ansible Vault", ErrNotKey)
	case keytext.FormReference:
		return nil, fmt.Errorf("%w: it names a place where a key may be", ErrNotKey)
	case keytext.FormPlaceholder:
		return nil, fmt.Errorf("%w: it is what a program writes where a value is missing", ErrNotKey)
	}
	if c.Type != "" {
		return nil, fmt.Errorf("%w: its %s block is damaged", ErrNotKey, c.Type)
	}
	return nil, ErrNotKey
}
