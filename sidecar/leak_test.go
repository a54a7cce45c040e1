package main

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// The secrets in text form that the tests hand over.
const (
	passphrase      = "correct horse 電池"       // of everything encrypted in internal/decrypt/testdata
	nextPassphrase  = "battery staple 電池"      // of nextKeyOfNext
	wrongPassphrase = "tr0ub4dor and 3 others" // of nothing
	notAKey         = "a text that is no key but may be somebody's secret, pasted into the wrong field"
	awsSecret       = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

// The files that hold secrets, encrypted or not: every private key that a test hands over is here, or
// was cut from one that is. testdata was made by openssl genpkey -algorithm RSA and openssl pkcs8
// -topk8 -v2 aes-256-cbc; internal/decrypt/decrypt_test.go has the recipes of its own.
var secretFiles = []string{
	"internal/decrypt/testdata/rsa.pem", oldKey,
	"testdata/next.pem", nextKey, nextKeyOfNext,
	"internal/decrypt/testdata/rsa1024.pem",
	"internal/decrypt/testdata/ec.pem",
	"internal/decrypt/testdata/camellia",
	"internal/decrypt/testdata/traditional-encryption",
}

// leastPiece is how many bytes of a secret in a row count as a leak.
const leastPiece = 16

// A search knows every piece of the secrets in every form in which a program may print it by accident.
type search struct {
	of      map[string]string // from the piece to what it is of
	lengths map[int]bool      // of the pieces
}

// marked is the search for all secrets of these tests.
var marked = sync.OnceValue(func() search {
	s := search{map[string]string{}, map[int]bool{}}
	for _, text := range []string{passphrase, nextPassphrase, wrongPassphrase, notAKey, awsSecret} {
		s.mark("the text "+text[:4]+"...", []byte(text))
		s.pieces("the text "+text[:4]+"...", text, len("correct horse")) // what is left when the rest is escaped
		s.mark("the text "+text[:4]+"... in base64", []byte(base64.StdEncoding.EncodeToString([]byte(text))))
		s.mark("the text "+text[:4]+"... in a URL", []byte(url.PathEscape(text)))
		s.mark("the text "+text[:4]+"... in UTF-16", []byte(inUTF16(text)))
	}
	for _, path := range secretFiles {
		data, err := os.ReadFile(path)
		if err != nil {
			panic(err)
		}
		block, _ := pem.Decode(data)
		s.mark(path, block.Bytes)
		if key, err := keyfile.FromDER(block.Bytes); err == nil {
			private := key.RSA()
			pre := private.Precomputed
			for _, n := range append([]*big.Int{private.D, pre.Dp, pre.Dq, pre.Qinv}, private.Primes...) {
				s.pieces(path+" in decimal", n.String(), 38) // digits that 16 bytes fill
				s.pieces(path+" in hex", n.Text(16), 2*leastPiece)
				s.mark(path+" as a number", n.Bytes()) // as a JSON Web Key has it
			}
		}
	}
	data, err := os.ReadFile("internal/decrypt/testdata/pkcs12")
	if err != nil {
		panic(err)
	}
	container, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(string(data), "\n", ""))
	if err != nil {
		panic(err)
	}
	s.mark("a PKCS#12 file", container)
	return s
})

// mark adds the forms of a secret: as it is, base64, hex, and the lists that %v and %#v make of bytes.
func (s search) mark(what string, secret []byte) {
	s.pieces(what, string(secret), leastPiece)
	s.pieces(what+" in hex", hex.EncodeToString(secret), 2*leastPiece)
	s.pieces(what+" as a list", strings.Trim(fmt.Sprint(secret), "[]"), len("0 ")*leastPiece-1)
	s.pieces(what+" in Go", fmt.Sprintf("%#v", secret), len("0x0, ")*leastPiece-2)
	// Four letters hold three bytes, so that where the encoding began shows in every letter. Of 128
	// bits in a row at least 20 letters have all six.
	for skip := range 3 {
		for _, alphabet := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			s.pieces(what+" in base64", alphabet.EncodeToString(secret[skip:]), 20)
		}
	}
}

func (s search) pieces(what, encoded string, length int) {
	length = min(length, len(encoded))
	s.lengths[length] = true
	for i := range len(encoded) - length + 1 {
		s.of[encoded[i:i+length]] = what
	}
}

var (
	// Line breaks, also written out, are where PEM is folded.
	unfold = strings.NewReplacer("\n", "", "\r", "", `\n`, "", `\r`, "", " ", "", "\t", "")
	// Of hex it is bytes or groups of them that are set apart.
	bare = strings.NewReplacer("\n", "", "\r", "", `\n`, "", `\r`, "", " ", "", "\t", "", ":", "")
)

// in names the secret that a text has a piece of, "" if it is clean.
func (s search) in(text string) string {
	for _, form := range []string{text, unfold.Replace(text), strings.ToLower(bare.Replace(text))} {
		for length := range s.lengths {
			for i := range len(form) - length + 1 {
				if what, found := s.of[form[i:i+length]]; found {
					return what
				}
			}
		}
	}
	return ""
}

// Every other test relies on this: a planted secret is found in any form and at any size.
func TestSearch_FindsPlantedSecrets(t *testing.T) {
	t.Parallel()
	key, err := keyfile.Read("internal/decrypt/testdata/rsa.pem")
	if err != nil {
		t.Fatal(err)
	}
	private := key.RSA()
	der := keyfile.DER.Encode(key)
	encrypted, _ := pem.Decode([]byte(content(t, oldKey)))
	prime := private.Primes[0]

	plants := map[string]string{
		"the passphrase":            passphrase,
		"the passphrase, escaped":   fmt.Sprintf("%+q", passphrase),
		"the passphrase, in base64": base64.StdEncoding.EncodeToString([]byte(passphrase)),
		"the passphrase, in hex":    hex.EncodeToString([]byte(passphrase)),
		"the passphrase, as bytes":  fmt.Sprint([]byte(passphrase)),
		"a credential":              awsSecret,
		"the PEM":                   content(t, "internal/decrypt/testdata/rsa.pem"),
		"the encrypted PEM":         content(t, oldKey),
		"the encrypted PEM, quoted": fmt.Sprintf("%q", content(t, oldKey)),
		"the DER":                   string(der),
		"the exponent":              private.D.String(),
		"the exponent, in a JWK":    base64.RawURLEncoding.EncodeToString(private.D.Bytes()),
		"the passphrase, in a URL":  url.PathEscape(passphrase),
		"the passphrase, in UTF-16": inUTF16(passphrase),
		"that in base64":            base64.StdEncoding.EncodeToString([]byte(inUTF16(passphrase))),
		"the passphrase, twice":     base64.StdEncoding.EncodeToString([]byte(base64.StdEncoding.EncodeToString([]byte(passphrase)))),
		"a prime":                   prime.String(),
		"a prime, in hex":           prime.Text(16),
		"the key, printed":          fmt.Sprintf("%+v", *private),
	}
	for at := 0; at+leastPiece <= len(der); at += 97 {
		piece := der[at : at+leastPiece]
		for form, text := range map[string]string{
			"raw":          string(piece),
			"base64":       base64.StdEncoding.EncodeToString(piece),
			"URL base64":   base64.RawURLEncoding.EncodeToString(piece),
			"hex":          hex.EncodeToString(piece),
			"HEX":          fmt.Sprintf("%X", piece),
			"hex, spaced":  fmt.Sprintf("% x", piece),
			"colons":       strings.ReplaceAll(fmt.Sprintf("% x", piece), " ", ":"),
			"Go syntax":    fmt.Sprintf("%#v", piece),
			"list":         fmt.Sprint(piece),
			"a folded PEM": base64.StdEncoding.EncodeToString(piece[:9]) + "\n" + base64.StdEncoding.EncodeToString(piece[9:]),
		} {
			plants[fmt.Sprintf("%s of 16 bytes at %d", form, at)] = text
		}
	}
	for at := 0; at+leastPiece <= len(encrypted.Bytes); at += 97 {
		plants[fmt.Sprintf("16 encrypted bytes at %d", at)] = base64.StdEncoding.EncodeToString(encrypted.Bytes[at : at+leastPiece])
	}
	for what, plant := range plants {
		if marked().in(`{"level":"ERROR","msg":"refresh failed","error":"`+plant+`"}`) == "" {
			t.Errorf("not found: %s", what)
		}
	}
	for _, clean := range []string{
		"", key.Fingerprint(), fmt.Sprint(key), content(t, "internal/decrypt/testdata/rsa.fingerprint"),
		"-----BEGIN ENCRYPTED PRIVATE KEY-----", "openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA256",
	} {
		if found := marked().in(clean); found != "" {
			t.Errorf("%s found in %q", found, clean)
		}
	}
}

// Every output is searched: all of them are complete when a process has ended.
func TestSearch_CoversEveryOutput(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	k.env["SNOWKEY_METRICS_ADDR"] = freeAddress(t)
	once := k.do("once")
	run := k.run()
	k.ssm.Delete(keyParameter)
	run.signal(syscall.SIGHUP)
	run.eventually("a failure", func() bool { return run.count("refresh failed") > 0 })
	run.end(syscall.SIGTERM)
	for what, found := range map[string]bool{
		"stdout":      strings.Contains(once.outputs()["stdout"], "SHA256:"),
		"stderr":      strings.Contains(run.outputs()["stderr"], "refresh failed"),
		"status.json": strings.Contains(run.outputs()["status.json or HTTP"], "checked_at"),
		"/metrics":    strings.Contains(run.outputs()["status.json or HTTP"], "snowkey_refreshes_total"),
	} {
		if !found {
			t.Errorf("%s was not collected", what)
		}
	}
}
