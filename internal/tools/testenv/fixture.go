package testenv

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"testing"
)

// Serve serves HTTP on this machine until the test ends, and returns where.
func Serve(t testing.TB, handler http.Handler) *url.URL {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// Read returns what is in a file.
func Read(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
