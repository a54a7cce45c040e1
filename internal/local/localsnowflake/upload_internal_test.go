package localsnowflake

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// slowTransport answers when it is told to, and does not end with its request.
type slowTransport chan struct{}

func (t slowTransport) RoundTrip(*http.Request) (*http.Response, error) {
	<-t
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
}

func TestClose_WaitsForUploads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(WithEngine(&url.URL{Scheme: "http", Host: "engine"}, time.Hour))
		engine := make(slowTransport)
		s.engine.client.Transport = engine
		expires := strconv.FormatInt(s.clock().Add(time.Minute).Unix(), 10)
		at := endpointUpload + "?path=f&expires=" + expires + "&signature=" + s.engine.sign("f", expires)
		go s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPut, at, strings.NewReader("x")))
		synctest.Wait()
		closed := make(chan struct{})
		go func() {
			s.Close()
			close(closed)
		}()
		synctest.Wait()
		select {
		case <-closed:
			t.Error("Close has not waited for the upload")
		default:
		}
		close(engine)
		<-closed
	})
}
