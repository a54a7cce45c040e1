package keysocket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

var (
	errTooManyReaders = fmt.Errorf("%d connections are open; end the programs that connect and do not read", MaxReaders)
	errGone           = errors.New("the reader has gone") // not a refusal, so not reported
)

// accept answers connections until the listener is closed. While MaxReaders are open it closes further ones at once: an answer
// that is not written takes no memory.
func (s *Server) accept(listener *net.UnixListener, format keyfile.Format) {
	for {
		conn, err := listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		switch {
		case err != nil:
			sleep(s.ctx, acceptRetry)
		case !s.handle(conn, format):
			sleep(s.ctx, refusedPause)
		}
	}
}

// handle answers a connection in a goroutine of its own, and reports whether there was a place for it.
func (s *Server) handle(conn *net.UnixConn, format keyfile.Format) bool {
	select {
	case s.Slots <- struct{}{}:
		s.wait.Go(func() {
			defer func() { <-s.Slots }()
			s.answer(conn, format)
		})
		return true
	default:
		hangUp(conn)
		s.OnRead(Read{Format: format, Refused: errTooManyReaders})
		return false
	}
}

// answer writes the key. It fits into the connection's buffer, so the write does not wait for the reader.
func (s *Server) answer(conn *net.UnixConn, format keyfile.Format) {
	defer hangUp(conn)
	read := Read{Format: format}
	err := s.admit(conn, &read)
	if err == nil {
		err = s.write(conn, format)
	}
	if errors.Is(err, errGone) {
		return
	}
	read.Refused = err
	s.OnRead(read)
	if err == nil {
		s.drain(conn)
	}
}

func (s *Server) write(conn *net.UnixConn, format keyfile.Format) (err error) {
	_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	secret.Do(func() {
		content := format.Encode(s.key.Load())
		defer clear(content)
		_, err = conn.Write(content)
	})
	s.garbage.Store(true)
	if err == nil {
		err = conn.CloseWrite()
	}
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return errGone
	}
	return cause(err)
}

// drain holds the connection, and its place among MaxReaders, until the reader has read the key or has gone. Until then the
// answer takes memory.
func (s *Server) drain(conn *net.UnixConn) {
	for pause := time.Millisecond; unread(conn) && s.ctx.Err() == nil; pause = min(2*pause, time.Second) {
		sleep(s.ctx, pause)
	}
}

// hangUp closes the connection. It first discards what the reader sent: closing with unread input would make the reader's
// own read fail.
func hangUp(conn *net.UnixConn) {
	_ = conn.CloseRead()
	_ = conn.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = io.Copy(io.Discard, conn)
	_ = conn.Close()
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
