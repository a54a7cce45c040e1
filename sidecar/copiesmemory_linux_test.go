package main

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// A trace has pieces of each form that a secret may have in memory. Any piece counts as a copy.
type trace struct {
	what  string
	forms [][][]byte
}

// traces are those of a key and of its encrypted text. A number has two byte orders: that of DER, and that of the limbs
// with which math/big and crypto/rsa calculate.
func traces(key *keyfile.Key, encrypted []byte, passphrase string) []trace {
	private := key.RSA()
	block, _ := pem.Decode(encrypted)
	return []trace{
		number("private exponent (d)", private.D),
		number("first prime (p)", private.Primes[0]),
		number("second prime (q)", private.Primes[1]),
		number("d mod p-1", private.Precomputed.Dp),
		number("d mod q-1", private.Precomputed.Dq),
		inBase64("key as PEM or base64", keyfile.DER.Encode(key)),
		{"passphrase", [][][]byte{{[]byte(passphrase)}}},
		inBase64("encrypted key", block.Bytes),
	}
}

func number(what string, n *big.Int) trace {
	der := n.Bytes()
	limbs := slices.Clone(der)
	slices.Reverse(limbs)
	return trace{what, [][][]byte{pieces(der), pieces(limbs)}}
}

// inBase64 has pieces of single lines of PEM, which the text without line breaks contains, too.
func inBase64(what string, der []byte) trace {
	const line = 64
	text := base64.StdEncoding.EncodeToString(der)
	t := trace{what: what}
	var all [][]byte
	for _, n := range []int{2, len(text) / line / 2, len(text)/line - 1} {
		all = append(all, pieces([]byte(text[n*line:][:line]))...)
	}
	t.forms = append(t.forms, all)
	return t
}

func pieces(whole []byte) [][]byte {
	const size = 24
	return [][]byte{whole[:size], whole[len(whole)/2-size/2:][:size], whole[len(whole)-size:]}
}

func (t trace) copies(memory []byte) int {
	total := 0
	for _, form := range t.forms {
		most := 0
		for _, p := range form {
			most = max(most, bytes.Count(memory, p))
		}
		total += most
	}
	return total
}

// memoryOf reads all memory that a process can write to.
func memoryOf(t *testing.T, pid int) []byte {
	t.Helper()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if errors.Is(err, os.ErrPermission) {
		t.Skipf("the sidecar's memory is closed to all but CAP_SYS_PTRACE: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	var all bytes.Buffer
	for line := range strings.Lines(content(t, fmt.Sprintf("/proc/%d/maps", pid))) {
		var from, to uint64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if !strings.HasPrefix(mode, "rw") {
			continue
		}
		if _, err := io.Copy(&all, io.NewSectionReader(mem, int64(from), int64(to-from))); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	return all.Bytes()
}
