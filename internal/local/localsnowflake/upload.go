package localsnowflake

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// maxUpload is the size limit of a file for the engine, in bytes.
	maxUpload = 1 << 30

	// uploadValidity is how long after its PUT a file may be uploaded.
	uploadValidity = time.Hour
)

// uploadHeaders have to be signed according to the URL before the Python connector 5 sends them.
const uploadHeaders = "host;x-goog-if-generation-match;x-goog-meta-encryptiondata;x-goog-meta-matdesc;x-goog-meta-sfc-digest"

// withUploads replaces the URL that a PUT uploads to, if there is one, by a signed URL of the account: clients need not
// reach the engine, and need a login to upload.
func (s *Server) withUploads(c *call, data map[string]json.RawMessage) map[string]json.RawMessage {
	var stage map[string]json.RawMessage
	if json.Unmarshal(data["stageInfo"], &stage) != nil || stage == nil {
		return data
	}
	if _, known := stage["region"]; !known {
		stage["region"] = encoded("") // fakesnow has none, and some drivers insist on it
	}
	var to string
	_ = json.Unmarshal(stage["presignedUrl"], &to) // not every stage has such a URL
	if path, found := strings.CutPrefix(to, s.engine.base.String()+"/"); found {
		expires := strconv.FormatInt(s.clock().Add(uploadValidity).Unix(), 10)
		own := url.URL{Scheme: scheme(c.http), Host: c.http.Host, Path: endpointUpload, RawQuery: url.Values{
			"path": {path}, "expires": {expires}, "signature": {s.engine.sign(path, expires)}, "X-Goog-SignedHeaders": {uploadHeaders},
		}.Encode()}
		stage["presignedUrl"] = encoded(own.String())
	}
	data = maps.Clone(data)
	data["stageInfo"] = encoded(stage)
	return data
}

func scheme(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

func (e *engine) sign(path, expires string) string {
	mac := hmac.New(sha256.New, e.secret)
	mac.Write([]byte(expires + " " + path))
	return hex.EncodeToString(mac.Sum(nil))
}

// upload passes a file on to the engine.
func (s *Server) upload(w http.ResponseWriter, r *http.Request) {
	if s.engine == nil {
		http.NotFound(w, r)
		return
	}
	path, expires := r.URL.Query().Get("path"), r.URL.Query().Get("expires")
	if !hmac.Equal([]byte(r.URL.Query().Get("signature")), []byte(s.engine.sign(path, expires))) {
		http.Error(w, "the signature of the URL is wrong: PUT gives one", http.StatusForbidden)
		return
	}
	if until, err := strconv.ParseInt(expires, 10, 64); err != nil || s.clock().Unix() >= until {
		// 400, as of Google's storage: drivers then repeat the PUT.
		http.Error(w, "the URL has expired; send the PUT again", http.StatusBadRequest)
		return
	}
	if !s.engine.enter() {
		http.Error(w, "the local Snowflake is shutting down", http.StatusUnprocessableEntity)
		return
	}
	defer s.engine.running.Done()
	ctx, stop := s.uploadContext(w, r)
	defer stop()
	file := bufio.NewReader(http.MaxBytesReader(w, r.Body, maxUpload))
	status, err := s.engine.put(ctx, compressedName(path, file), file, r.ContentLength)
	if err != nil {
		// 4xx: drivers retry on 5xx, for minutes.
		http.Error(w, s.engine.unreachable(ctx, err).message, http.StatusUnprocessableEntity)
		return
	}
	if status >= http.StatusInternalServerError {
		http.Error(w, engineFailure("the SQL engine cannot store the file: it answers with HTTP status %d", status).message, http.StatusUnprocessableEntity)
		return
	}
	w.WriteHeader(status)
}

// uploadContext ends after the engine's timeout, and with the engine. So does reading from the client.
func (s *Server) uploadContext(w http.ResponseWriter, r *http.Request) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithTimeoutCause(r.Context(), s.engine.timeout, tookTooLong(s.engine.timeout))
	unlink := context.AfterFunc(s.engine.ctx, cancel)
	ended := make(chan struct{})
	endReading := context.AfterFunc(ctx, func() {
		defer close(ended)
		_ = http.NewResponseController(w).SetReadDeadline(time.Now()) // a server without deadlines has no slow clients
	})
	return ctx, func() {
		if !endReading() {
			<-ended // the connection is the next request's
		}
		unlink()
		cancel()
	}
}

// compressedName adds .gz to the name of a file that the driver compressed after it got the URL.
func compressedName(path string, file *bufio.Reader) string {
	start, _ := file.Peek(2) // a shorter file is not compressed
	if string(start) == "\x1f\x8b" && !strings.HasSuffix(path, ".gz") {
		return path + ".gz"
	}
	return path
}
