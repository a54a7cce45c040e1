package keygen

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// askPassphrase reads a passphrase from the terminal, twice and without echo. Without a terminal it fails.
func askPassphrase(ctx context.Context) (secret.Value, error) {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return secret.Value{}, config.UsageError{Err: errors.New("no passphrase, and no terminal to ask for one: " +
			"set PRIVATE_KEY_PASSPHRASE, or give --passphrase-file or --generate-passphrase")}
	}
	// A read from a file that is opened here can be ended, one from standard input cannot.
	tty, err := os.OpenFile(terminalInput, os.O_RDWR, 0)
	if err != nil {
		return secret.Value{}, fmt.Errorf("no terminal to ask on: %w; give --passphrase-file", err)
	}
	defer tty.Close()
	screen, err := os.OpenFile(terminalOutput, os.O_RDWR, 0)
	if err != nil {
		return secret.Value{}, fmt.Errorf("no terminal to ask on: %w; give --passphrase-file", err)
	}
	defer screen.Close()
	restore, err := makeRaw(tty)
	if err != nil {
		return secret.Value{}, fmt.Errorf("cannot stop the terminal from showing a passphrase: %w; give --passphrase-file", err)
	}
	defer restore()
	// SIGTERM ends the read. Ctrl-C is no signal while the terminal is raw: the prompt reads it.
	defer context.AfterFunc(ctx, func() { _ = tty.SetReadDeadline(time.Now()) })()
	return askTwice(term.NewTerminal(readWriter{tty, screen}, ""))
}

// readWriter reads from one file of the terminal and writes to the other.
type readWriter struct {
	io.Reader
	io.Writer
}

// makeRaw stops a terminal from showing what is typed, until restored. Unlike Fd, a conn's Control does not change the
// file.
func makeRaw(tty *os.File) (restore func(), err error) {
	conn, err := tty.SyscallConn()
	if err != nil {
		return nil, err
	}
	var before *term.State
	var rawErr error
	if err := conn.Control(func(fd uintptr) { before, rawErr = term.MakeRaw(int(fd)) }); err != nil {
		return nil, err
	}
	return func() { _ = conn.Control(func(fd uintptr) { _ = term.Restore(int(fd), before) }) }, rawErr
}

// A prompter reads an answer without showing it; *term.Terminal is one.
type prompter interface {
	ReadPassword(prompt string) (string, error)
	io.Writer
}

// maxTries is how often a person may mistype.
const maxTries = 3

func askTwice(terminal prompter) (secret.Value, error) {
	for range maxTries {
		first, err := ask(terminal, "passphrase for the key: ")
		if err != nil {
			return secret.Value{}, err
		}
		if err := CheckPassphrase(first); err != nil {
			fmt.Fprintf(terminal, "%v\n", err)
			continue
		}
		second, err := ask(terminal, "the same again: ")
		if err != nil {
			return secret.Value{}, err
		}
		if bytes.Equal(first.Bytes(), second.Bytes()) {
			return first, nil
		}
		fmt.Fprintln(terminal, "the two differ")
	}
	return secret.Value{}, errors.New("no passphrase; run this again, or give --generate-passphrase")
}

func ask(terminal prompter, prompt string) (secret.Value, error) {
	text, err := terminal.ReadPassword(prompt)
	if errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) {
		return secret.Value{}, errors.New("stopped at the passphrase; nothing was made")
	}
	if err != nil {
		return secret.Value{}, fmt.Errorf("the terminal: %w; give --passphrase-file", err)
	}
	return secret.New([]byte(text)), nil
}
