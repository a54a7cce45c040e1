//go:build faults

package faults

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Names are answered by a server of our own, at the port that every resolver asks.
var names struct {
	once sync.Once
	err  error
	how  sync.Map // name to one of the below; without one the answer is 127.0.0.1
}

type nameAnswer int

const (
	serverFails nameAnswer = iota
	serverSilent
)

// resolve has every process of these tests ask the server for names.
func resolve(t *testing.T) {
	t.Helper()
	needsNamespaces(t)
	names.once.Do(func() { names.err = serveNames() })
	if names.err != nil {
		t.Fatal(names.err)
	}
}

func serveNames() error {
	conn, err := net.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		return err
	}
	go answerNames(conn)
	conf := filepath.Join(os.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver 127.0.0.1\noptions timeout:2 attempts:2\n"), 0o600); err != nil {
		return err
	}
	defer os.Remove(conf) // the mount holds on to it
	return syscall.Mount(conf, "/etc/resolv.conf", "", syscall.MS_BIND, "")
}

func answerNames(conn net.PacketConn) {
	query := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(query)
		if err != nil {
			return
		}
		if answer := answerTo(query[:n]); answer != nil {
			_, _ = conn.WriteTo(answer, from)
		}
	}
}

// answerTo speaks as much of RFC 1035 as a resolver asks for: one question, and 127.0.0.1 for an A.
func answerTo(query []byte) []byte {
	const header = 12
	if len(query) < header+5 {
		return nil
	}
	var labels []string
	at := header
	for at < len(query) && query[at] != 0 {
		next := at + 1 + int(query[at])
		if next >= len(query) {
			return nil
		}
		labels = append(labels, string(query[at+1:next]))
		at = next
	}
	question := query[header : at+5]
	answer := append([]byte{query[0], query[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, question...)
	how, faulty := names.how.Load(strings.ToLower(strings.Join(labels, ".")))
	switch {
	case faulty && how == serverSilent:
		return nil
	case faulty && how == serverFails:
		answer[3] |= 2
		return answer
	case query[at+2] != 1: // not an A: there is none of that type
		return answer
	}
	answer[7] = 1
	return append(answer, 0xc0, header, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1)
}
