package keyfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

// SocketTimeout is how long a socket may take to give the whole key.
const SocketTimeout = 5 * time.Second

// MaxSocketPath is the length of the longest path of a socket, in bytes: 107 on Linux.
const MaxSocketPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// The errors of a socket that gives no key, for errors.Is.
var (
	// ErrNotServed: no sidecar serves a key there now, or it refuses this reader.
	ErrNotServed = errors.New("no key is served now")
	// ErrRefused: the connection was closed without a key: the sidecar has none, has too many readers, or lets this user
	// not read, although the socket's mode does. It is an ErrNotServed.
	ErrRefused = fmt.Errorf("%w: the connection was closed", ErrNotServed)
)

func isSocket(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().Type() == fs.ModeSocket
}

// readSocket connects to a socket and reads it to its end.
func readSocket(ctx context.Context, path string) ([]byte, error) {
	if len(path) > MaxSocketPath {
		return nil, fmt.Errorf("%w: %s has %d bytes, and the path of a socket at most %d; mount the volume at a shorter one",
			ErrNotServed, path, len(path), MaxSocketPath)
	}
	ctx, cancel := context.WithTimeout(ctx, SocketTimeout)
	defer cancel()
	conn, err := dial(ctx, path)
	if err != nil {
		return nil, notServed(path, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	data, err := readAll(path, conn)
	switch {
	case errors.Is(err, errTooLarge):
		return data, err
	case err != nil:
		return data, notServed(path, err)
	case len(data) == 0:
		return nil, fmt.Errorf("%s: %w; the sidecar's log says why", path, ErrRefused)
	}
	return data, nil
}

// dial connects, and tries again while too many others do.
func dial(ctx context.Context, path string) (net.Conn, error) {
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if !errors.Is(err, syscall.EAGAIN) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// notServed explains an error of a socket. One of permission stays fs.ErrPermission.
func notServed(path string, err error) error {
	var system *os.SyscallError
	if errors.As(err, &system) {
		err = system.Err
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errors.New("it did not give the whole key in time")
	}
	return fmt.Errorf("%s: %w: %w", path, ErrNotServed, err)
}
