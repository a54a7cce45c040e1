package metrics

import (
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener whose connections are always there.
type pipes struct{ dialed []net.Conn }

func (p *pipes) Accept() (net.Conn, error) {
	here, there := net.Pipe()
	p.dialed = append(p.dialed, there)
	return here, nil
}

func (*pipes) Close() error   { return nil }
func (*pipes) Addr() net.Addr { return nil }

func TestListener_NewConnectionReplacesTheOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clients := &pipes{}
		l := bound(clients)
		began := time.Now()
		var accepted []net.Conn
		for range 3 * maxConnections {
			conn, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			accepted = append(accepted, conn)
			if len(l.open) > maxConnections {
				t.Fatalf("%d connections are open", len(l.open))
			}
		}
		if took := time.Since(began); took != 2*minHold {
			t.Errorf("%d connections were accepted in %v", len(accepted), took)
		}
		for i, client := range clients.dialed {
			_ = client.SetReadDeadline(time.Now().Add(-1))
			_, err := client.Read(make([]byte, 1))
			if closed, want := !errors.Is(err, os.ErrDeadlineExceeded), i < 2*maxConnections; closed != want {
				t.Errorf("connection %d is closed: %v, want %v", i, closed, want)
			}
		}
		for _, conn := range accepted {
			conn.Close()
			conn.Close()
		}
		if len(l.open) != 0 {
			t.Errorf("%d connections count as open", len(l.open))
		}
	})
}

func TestListener_ClosedConnectionMakesRoomAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := bound(&pipes{})
		began := time.Now()
		for range 10 * maxConnections {
			conn, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			go func() { time.Sleep(time.Millisecond); conn.Close() }()
		}
		if took := time.Since(began); took > minHold/2 {
			t.Errorf("short connections took %v", took)
		}
		time.Sleep(time.Second)
	})
}

func TestListener_CloseEndsAnAcceptThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clients := &pipes{}
		l := bound(clients)
		for range maxConnections {
			if _, err := l.Accept(); err != nil {
				t.Fatal(err)
			}
		}
		refused := make(chan error)
		go func() { _, err := l.Accept(); refused <- err }()
		synctest.Wait()
		l.Close()
		if err := <-refused; !errors.Is(err, net.ErrClosed) {
			t.Errorf("error %v", err)
		}
		if _, err := clients.dialed[maxConnections].Read(make([]byte, 1)); err == nil {
			t.Error("the waiting connection was left open")
		}
	})
}
