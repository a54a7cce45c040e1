package localssm

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// signatureMismatch are AWS's words.
const signatureMismatch = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key " +
	"and signing method. Consult the service documentation for details."

// signedBy reports whether a request with this body has the signature of a secret key, by Signature Version 4. The
// time of the signature is not checked. No call of SSM or STS has a query or a path to escape, so that one with them is
// taken for wrong.
func signedBy(r *http.Request, body []byte, secretKey string) bool {
	fields := authorizationFields(r)
	scope := strings.Split(fields["Credential"], "/")
	if len(scope) != 5 {
		return false
	}
	canonical := strings.Join([]string{
		r.Method, cmp.Or(r.URL.Path, "/"), r.URL.RawQuery, canonicalHeaders(r, fields["SignedHeaders"]), fields["SignedHeaders"], hash(body),
	}, "\n")
	text := strings.Join([]string{"AWS4-HMAC-SHA256", r.Header.Get("X-Amz-Date"), strings.Join(scope[1:], "/"), hash([]byte(canonical))}, "\n")
	key := []byte("AWS4" + secretKey)
	for _, part := range scope[1:] {
		key = sign(key, part)
	}
	return hmac.Equal([]byte(hex.EncodeToString(sign(key, text))), []byte(fields["Signature"]))
}

// authorizationFields returns the fields of "AWS4-HMAC-SHA256 Credential=..., SignedHeaders=..., Signature=...".
func authorizationFields(r *http.Request) map[string]string {
	fields := map[string]string{}
	rest, _ := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	for field := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		fields[name] = value
	}
	return fields
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func sign(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// canonicalHeaders puts back what net/http takes out of the headers of a request.
func canonicalHeaders(r *http.Request, signed string) string {
	var b strings.Builder
	for name := range strings.SplitSeq(signed, ";") {
		values := slices.Clone(r.Header.Values(name))
		switch name {
		case "host":
			values = []string{r.Host}
		case "content-length":
			values = []string{strconv.FormatInt(r.ContentLength, 10)}
		}
		for i, value := range values {
			values[i] = strings.Join(strings.Fields(value), " ")
		}
		b.WriteString(name + ":" + strings.Join(values, ",") + "\n")
	}
	return b.String()
}
