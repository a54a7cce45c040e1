package refresh

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

// BenchmarkRefresh is a refresh that finds everything unchanged, which a task pays for at every interval: the SDK and its
// HTTP included, and nothing of the server.
func BenchmarkRefresh(b *testing.B) {
	url := answering(b, fmt.Sprintf(`{"InvalidParameters":[],"Parameters":[
		{"Name":"/app/key","ARN":"arn:aws:ssm:us-east-1:000000000000:parameter/app/key","Type":"SecureString","DataType":"text","Version":3,"LastModifiedDate":1767323045.006,"Value":%q},
		{"Name":"/app/passphrase","ARN":"arn:aws:ssm:us-east-1:000000000000:parameter/app/passphrase","Type":"SecureString","DataType":"text","Version":1,"LastModifiedDate":1767323045.001,"Value":"passphrase"}]}`,
		testkey.Encrypted(testkey.Key(0), "passphrase")))
	b.Setenv("AWS_ENDPOINT_URL_SSM", url)
	b.Setenv("AWS_REGION", "us-east-1")
	b.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	b.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	b.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	handle, err := ssm.NewKey(ssm.Parameters{Key: "/app/key", Passphrase: "/app/passphrase"})
	if err != nil {
		b.Fatal(err)
	}
	reader, err := ssm.NewReader(b.Context(), ssm.Options{}, handle)
	if err != nil {
		b.Fatal(err)
	}
	r := New(Options{
		Source:   reader,
		Interval: 5 * time.Minute,
		Log:      slog.New(slog.DiscardHandler),
		Keys: []Key{{
			Handle: handle,
			Dir:    keyDirectory(b.TempDir()),
		}},
	})
	if first := r.RefreshOnce(b.Context())[0]; first.Err != nil || !first.Published {
		b.Fatal(first)
	}
	b.ReportAllocs()
	for b.Loop() {
		if o := r.RefreshOnce(b.Context())[0]; o.Err != nil || o.Published {
			b.Fatal(o)
		}
	}
}

// answering is the address of a server that gives every request the same answer. It allocates nothing for
// one, so that what a benchmark counts is the client's.
func answering(b *testing.B, body string) (url string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	ctx, stop := context.WithCancel(b.Context())
	var serving sync.WaitGroup
	b.Cleanup(func() {
		stop()
		listener.Close()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer context.AfterFunc(ctx, func() { conn.Close() })()
				answerAll(conn, answer)
			})
		}
	})
	return "http://" + listener.Addr().String()
}

func answerAll(conn net.Conn, answer []byte) {
	defer conn.Close()
	buffer := make([]byte, 16<<10)
	filled := 0
	for {
		n, err := conn.Read(buffer[filled:])
		if err != nil {
			return
		}
		filled += n
		length := requestLength(buffer[:filled])
		if length == 0 || filled < length {
			continue
		}
		filled = copy(buffer, buffer[length:filled])
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}

var contentLength = []byte("\r\nContent-Length: ")

// requestLength is that of the request at the beginning of data, 0 while its head is not all there.
func requestLength(data []byte) int {
	head, _, complete := bytes.Cut(data, []byte("\r\n\r\n"))
	if !complete {
		return 0
	}
	_, rest, _ := bytes.Cut(head, contentLength)
	digits, _, _ := bytes.Cut(rest, []byte("\r\n"))
	body, _ := strconv.Atoi(string(digits)) // what cannot be read has no body
	return len(head) + 4 + body
}
