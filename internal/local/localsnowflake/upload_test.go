package localsnowflake_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// uploadURL is where a PUT tells its driver to upload.
func uploadURL(t *testing.T, c *client, e *stubEngine) *url.URL {
	t.Helper()
	e.answers(func(string) string {
		return fmt.Sprintf(`{"success":true,"data":{"command":"UPLOAD","stageInfo":{"locationType":"GCS","creds":{},"presignedUrl":"%s/fs_bucket/DB/S/f.csv"}}}`, e.URL)
	})
	var got struct {
		Data struct {
			Command   string
			StageInfo struct {
				LocationType, PresignedURL string
				Region                     *string
			}
		}
	}
	if err := json.Unmarshal(c.raw(t, map[string]any{"sqlText": "PUT file:///f.csv @s"}), &got); err != nil {
		t.Fatal(err)
	}
	at, err := url.Parse(got.Data.StageInfo.PresignedURL)
	if err != nil || !strings.HasPrefix(at.String(), c.url) || got.Data.Command != "UPLOAD" || got.Data.StageInfo.Region == nil {
		t.Fatalf("got %+v, %v", got, err)
	}
	return at
}

func put(t *testing.T, at *url.URL, content string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, at.String(), strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func TestUpload_GoesThroughTheAccount(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	at := uploadURL(t, a.client().open(), e)
	for content, path := range map[string]string{"1,a\n": "/fs_bucket/DB/S/f.csv", "\x1f\x8bcompressed": "/fs_bucket/DB/S/f.csv.gz"} {
		if status, body := put(t, at, content); status != http.StatusOK {
			t.Errorf("%d: %s", status, body)
		}
		if got := e.requests(path); len(got) != 1 || !strings.Contains(got[0].raw, content) {
			t.Errorf("%s: the engine got %+v", path, got)
		}
	}
}

func TestUpload_NeedsASignature(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	at := uploadURL(t, a.client().open(), e)
	query := at.Query()
	query.Set("path", "fs_bucket/DB/S/other")
	at.RawQuery = query.Encode()
	if status, _ := put(t, at, "x"); status != http.StatusForbidden {
		t.Errorf("another path: %d", status)
	}
	at.RawQuery = ""
	if status, _ := put(t, at, "x"); status != http.StatusForbidden {
		t.Errorf("no path: %d", status)
	}
	at.Host = strings.TrimPrefix(newAccount(t).url, "http://")
	if status, _ := put(t, at, "x"); status != http.StatusNotFound {
		t.Errorf("no engine: %d", status)
	}
	if got := e.requests("/fs_bucket/DB/S/other"); len(got) != 0 {
		t.Errorf("the engine got %+v", got)
	}
}

func TestUpload_EngineGoneIsNotSentAgain(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	at := uploadURL(t, a.client().open(), e)
	e.Close()
	if status, body := put(t, at, "x"); status != http.StatusUnprocessableEntity || !strings.Contains(body, "gives no answer") {
		t.Errorf("%d: %s", status, body)
	}
}

func TestUpload_URLExpires(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	at := uploadURL(t, a.client().open(), e)
	a.clock.advance(59 * time.Minute)
	if status, body := put(t, at, "x"); status != http.StatusOK {
		t.Errorf("within an hour: %d: %s", status, body)
	}
	a.clock.advance(time.Minute)
	if status, body := put(t, at, "x"); status != http.StatusBadRequest || !strings.Contains(body, "send the PUT again") {
		t.Errorf("after an hour: %d: %s", status, body)
	}
	query := at.Query()
	query.Set("expires", "99999999999")
	at.RawQuery = query.Encode()
	if status, _ := put(t, at, "x"); status != http.StatusForbidden {
		t.Errorf("another time: %d", status)
	}
}

func TestUpload_EndsWithTheServer(t *testing.T) {
	for name, sent := range map[string]string{"nothing has come": "", "the engine has a part": strings.Repeat("x", 1<<16)} {
		t.Run(name, func(t *testing.T) {
			a, e := newAccountWithEngine(t, engineTimeout)
			at := uploadURL(t, a.client().open(), e)
			started := make(chan struct{}, 1)
			e.mu.Lock()
			e.uploading = func() { started <- struct{}{} }
			e.mu.Unlock()
			connection, err := net.Dial("tcp", at.Host)
			if err != nil {
				t.Fatal(err)
			}
			defer connection.Close()
			if _, err := fmt.Fprintf(connection, "PUT %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", at.RequestURI(), at.Host, 1<<20, sent); err != nil {
				t.Fatal(err)
			}
			if sent != "" {
				<-started
			}
			closing := time.Now()
			a.Close()
			if took := time.Since(closing); took > engineTimeout/2 {
				t.Errorf("Close has waited for %v", took)
			}
			if err := connection.SetReadDeadline(time.Now().Add(engineTimeout / 2)); err != nil {
				t.Fatal(err)
			}
			response, err := http.ReadResponse(bufio.NewReader(connection), nil)
			if err != nil {
				t.Fatalf("the upload goes on: %v", err)
			}
			defer response.Body.Close()
			if response.StatusCode != http.StatusUnprocessableEntity {
				t.Errorf("it ends with %d", response.StatusCode)
			}
			if status, body := put(t, at, "x"); status != http.StatusUnprocessableEntity {
				t.Errorf("another one: %d: %s", status, body)
			}
		})
	}
}
