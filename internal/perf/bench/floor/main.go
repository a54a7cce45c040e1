// Command floor is the least that puts a key on disk: one request to Parameter Store, signed by hand and
// sent with net/http, the decryption and the write. It is what the sidecar is measured against.
//
// It checks nothing, reads no AWS settings but the variables that it is given, never tries again, and is no
// example: the file appears before it is whole.
package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/youmark/pkcs8"
)

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

func run(keyName, passphraseName, file string) error {
	values, err := parameters(keyName, passphraseName)
	if err != nil {
		return err
	}
	block, _ := pem.Decode([]byte(values[keyName]))
	if block == nil {
		return errors.New("no PEM")
	}
	key, err := pkcs8.ParsePKCS8PrivateKey(block.Bytes, []byte(values[passphraseName]))
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(file, der, 0o440)
}

func parameters(names ...string) (map[string]string, error) {
	body, err := json.Marshal(map[string]any{"Names": names, "WithDecryption": true})
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequest(http.MethodPost, os.Getenv("AWS_ENDPOINT_URL_SSM")+"/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-amz-json-1.1")
	request.Header.Set("X-Amz-Target", "AmazonSSM.GetParameters")
	sign(request, body)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, errors.New(response.Status)
	}
	var answer struct {
		Parameters []struct{ Name, Value string }
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil, err
	}
	values := map[string]string{}
	for _, p := range answer.Parameters {
		values[p.Name] = p.Value
	}
	return values, nil
}

// sign is Signature Version 4 of AWS for this one request.
func sign(r *http.Request, body []byte) {
	at := time.Now().UTC().Format("20060102T150405Z")
	r.Header.Set("X-Amz-Date", at)
	scope := strings.Join([]string{at[:8], os.Getenv("AWS_REGION"), "ssm", "aws4_request"}, "/")
	const signed = "content-type;host;x-amz-date;x-amz-target"
	canonical := strings.Join([]string{
		r.Method, "/", "",
		"content-type:" + r.Header.Get("Content-Type"),
		"host:" + r.Host,
		"x-amz-date:" + at,
		"x-amz-target:" + r.Header.Get("X-Amz-Target"),
		"", signed, hash(body),
	}, "\n")
	key := []byte("AWS4" + os.Getenv("AWS_SECRET_ACCESS_KEY"))
	for part := range strings.SplitSeq(scope, "/") {
		key = mac(key, part)
	}
	signature := mac(key, strings.Join([]string{"AWS4-HMAC-SHA256", at, scope, hash([]byte(canonical))}, "\n"))
	r.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%x",
		os.Getenv("AWS_ACCESS_KEY_ID"), scope, signed, signature))
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
