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

// SocketTimeout bounds the time in which a socket has to give the whole key.
const SocketTimeout = 5 * time.Second

// MaxSocketPath is the length in bytes of the longest path of a socket: 107 on Linux.
const MaxSocketPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// The errors for a socket that gives no key.
var (
	// ErrNotServed: the socket gave no key in time. Mostly no sidecar is running; it may be there again later.
	ErrNotServed = errors.New("no key is served now")
	// ErrSocketClosed: the sidecar closed the connection without giving a key. It has none yet, has too many readers, or
	// refuses this user although the socket's mode does not. It is also an ErrNotServed.
	ErrSocketClosed = fmt.Errorf("%w: the connection was closed", ErrNotServed)
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
		return nil, err
	case err != nil:
		return nil, notServed(path, err)
	case len(data) == 0:
		return nil, fmt.Errorf("%s: %w; the sidecar's log says why", path, ErrSocketClosed)
	}
	return data, nil
}

// dial connects, and tries again while the socket's queue of connections is full.
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

// notServed explains an error of a socket. It still wraps the system's error, e.g. fs.ErrPermission.
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
