package decrypt

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// The ways in which a passphrase is stored, each with the words of the log, by who does.
func writtenPassphrases() map[string]writtenPassphrase {
	const p = passphrase
	var mojibake strings.Builder
	for _, b := range []byte(p) {
		mojibake.WriteRune(rune(b))
	}
	return map[string]writtenPassphrase{
		"as it is":                           {p, ""},
		"line feed: echo":                    {p + "\n", "without the line break after it"},
		"CRLF: Notepad":                      {p + "\r\n", "without the line break after it"},
		"CR":                                 {p + "\r", "without the line break after it"},
		"several line ends":                  {p + "\n\r\n\n", "without the line break after it"},
		"a second line: openssl reads one":   {p + "\nfor svc_etl\n", "without the line break after it"},
		"line break written out: echo -e":    {p + `\n`, "without the line break after it"},
		"CRLF written out":                   {p + `\r\n`, "without the line break after it"},
		"byte order mark: Notepad":           {"\ufeff" + p, "without the byte order mark before it, as UTF-8"},
		"mark and CRLF: Notepad":             {"\ufeff" + p + "\r\n", ""},
		"mark taken for Latin-1":             {"ï»¿" + p, "without the byte order mark before it, as UTF-8"},
		"UTF-16 LE: PowerShell's >":          {utf16Of(binary.LittleEndian, true, p+"\r\n"), ""},
		"UTF-16 LE without mark":             {utf16Of(binary.LittleEndian, false, p), "without the byte order mark before it, as UTF-8"},
		"UTF-16 BE":                          {utf16Of(binary.BigEndian, true, p), "without the byte order mark before it, as UTF-8"},
		"spaces: copied from a table":        {" " + p + " \t", "without the spaces around it"},
		"spaces that do not break":           {"\u00a0" + p + "\u200b", "without the spaces around it"},
		"a line break before it":             {"\n" + p, "without the spaces around it"},
		"quotation marks: docker's env file": {`"` + p + `"`, "without the quotation marks around it"},
		"single ones":                        {"'" + p + "'", "without the quotation marks around it"},
		"round ones: a word processor":       {"“" + p + "”", "without the quotation marks around it"},
		"quotation marks and a line break":   {`"` + p + "\"\n", "without the line break after it, without the quotation marks around it"},
		"quotation marks, spaces in them":    {`" ` + p + ` "`, ""},
		"Python's str":                       {"'" + p + `\n'`, ""},
		"JSON: aws --output json":            {jsonOf(p + "\n"), ""},
		"JSON, not ASCII: Python's dumps":    {`"correct horse \u96fb\u6c60"`, ""},
		"backslashes alone":                  {`correct horse \u96fb\u6c60`, "without the backslashes of JSON"},
		"an object: Secrets Manager":         {`{"passphrase":"` + p + `"}`, "without the JSON around it"},
		"an object of one field":             {`{"snowflake": "` + p + `"}`, "without the JSON around it"},
		"an object of more":                  {`{"user":"x","Passphrase":"` + p + `"}`, "without the JSON around it"},
		"base64: Kubernetes":                 {b64(p), "decoded from base64"},
		"base64 with the line break in it":   {b64(p + "\n"), "decoded from base64, without the line break after it"},
		"base64 with a line break after it":  {b64(p) + "\n", "without the line break after it, decoded from base64"},
		"base64url, not padded":              {base64.RawURLEncoding.EncodeToString([]byte(p)), "decoded from base64"},
		"base64 of UTF-16: PowerShell":       {b64(utf16Of(binary.LittleEndian, false, p)), ""},
		"percent signs: a URL":               {url.PathEscape(p), "decoded as a URL"},
		"a line of an env file":              {"export PRIVATE_KEY_PASSPHRASE='" + p + "'\n", ""},
		"a line of YAML":                     {"passphrase: " + p, "without the name before it"},
		"openssl's -passin":                  {"pass:" + p, "without the name before it"},
		"UTF-8 taken for Latin-1":            {mojibake.String(), "in Latin-1"},
	}
}

// A writtenPassphrase is read in a way that the log names; "" for any.
type writtenPassphrase struct{ stored, reading string }

func TestParse_WrittenPassphrases(t *testing.T) {
	fingerprint := fingerprintIn(t, "testdata")
	text := secret.New([]byte(testdata(t, "aes256.p8")))
	for name, tc := range writtenPassphrases() {
		t.Run(name, func(t *testing.T) {
			stored, err := Parse(text, secret.New([]byte(tc.stored)))
			if err != nil || stored.Key.Fingerprint() != fingerprint {
				t.Fatalf("read %v, %v", stored.Key, err)
			}
			if tc.reading != "" && stored.Reading != tc.reading || (stored.Reading == "") != (tc.stored == passphrase) {
				t.Errorf("read %q, want %q", stored.Reading, tc.reading)
			}
			if string(stored.Passphrase.Bytes()) != passphrase {
				t.Error("Passphrase is not the one that opens the key")
			}
		})
	}
}

// FuzzReadings checks what holds for any passphrase.
func FuzzReadings(f *testing.F) {
	for _, tc := range writtenPassphrases() {
		f.Add([]byte(tc.stored))
	}
	f.Fuzz(func(t *testing.T, stored []byte) {
		before := bytes.Clone(stored)
		all := slices.Collect(readings(secret.New(stored), maxReadings))
		if len(all) > maxReadings || !bytes.Equal(all[0].passphrase, before) || !bytes.Equal(stored, before) {
			t.Fatalf("%d readings, or the text has changed", len(all))
		}
		for i, r := range all[1:] {
			if r.passphrase == nil || len(r.how) == 0 || bytes.Equal(r.passphrase, before) {
				t.Fatalf("reading %d is the text again, or none", i+1)
			}
			for _, how := range r.how {
				if !slices.ContainsFunc(ways, func(w way) bool { return w.how == how }) {
					t.Fatalf("the log would say %q", how)
				}
			}
		}
	})
}

// A passphrase may have any of these characters itself: as it is goes first.
func TestReadings_ExactTextFirst(t *testing.T) {
	for _, p := range []string{`"quoted"`, "ends\n", " spaces ", "cGFzcw==", `{"passphrase":"x"}`, "a%20b", "\ufeffmark", "", "\n", `\u0041`} {
		all := slices.Collect(readings(secret.New([]byte(p)), maxReadings))
		if string(all[0].passphrase) != p || all[0].how != nil {
			t.Errorf("the first reading of %q is %q", p, all[0].passphrase)
		}
	}
}

// The readings are bounded in number, and by what a try costs.
func TestReadings_Bounded(t *testing.T) {
	nested := "secret"
	for range 20 {
		nested = `"` + b64(" "+nested+"\n") + "\"\n"
	}
	for limit := 1; limit <= maxReadings; limit++ {
		if got := len(slices.Collect(readings(secret.New([]byte(nested)), limit))); got != limit {
			t.Errorf("%d readings, want %d", got, limit)
		}
	}
	if got := len(slices.Collect(readings(secret.New([]byte(strings.Repeat("\n", keyfile.MaxSize+1))), maxReadings))); got != 1 {
		t.Errorf("%d readings of a huge text", got)
	}
	for name, tc := range map[string]struct {
		kdf  kdf
		want int
	}{
		"openssl's default":      {&pbkdf2Params{Iterations: 2048}, maxReadings},
		"OWASP, SHA-1":           {&pbkdf2Params{Iterations: 1_300_000}, 3},
		"the most of PBKDF2":     {&pbkdf2Params{Iterations: maxPBKDF2Work / 2}, 2},
		"openssl's scrypt":       {&scryptParams{N: 1 << 14, R: 8, P: 1}, maxReadings},
		"the most of scrypt":     {&scryptParams{N: 1 << 17, R: 8, P: 1}, 5},
		"the smallest of scrypt": {&scryptParams{N: 2, R: 1, P: 1}, maxReadings},
	} {
		if got := tc.kdf.tries(32); got != tc.want {
			t.Errorf("%s: %d tries, want %d", name, got, tc.want)
		}
	}
}

// What was stored for the passphrase is named if it cannot be one.
func TestParse_MistakenPassphrase(t *testing.T) {
	text := testdata(t, "aes256.p8")
	for stored, says := range map[string]string{
		"arn:aws:ssm:eu-west-1:123456789012:parameter/app/pass": "it is an ARN",
		"/run/secrets/passphrase":                               "a path",
		"file://passphrase":                                     "an address",
		"{{resolve:ssm-secure:/app/pass:1}}":                    "an expression of a template",
		"null":                                                  "where a value is missing",
		"#NAME?":                                                "where a value is missing",
		text:                                                    "it is a key itself",
		b64(text):                                               "it is a key itself",
		"AQICAHhYq3vJ":                                          "still encrypted by AWS KMS",
		"":                                                      "it is empty",
		" \r\n\u200b":                                           "nothing but white space",
		`""`:                                                    "nothing but white space and quotation marks",
		`{"user":"svc","pass":"hunter2"}`:                       "it is JSON without a text in a field named passphrase",
		"\ufeff {\"user\": \"svc\",\n \"pass\": \"hunter2\"}\r\n": "it is JSON without a text in a field named passphrase",
		jsonOf(`{"user":"svc","pass":"hunter2"}`):                 "it is JSON without a text in a field named passphrase",
		b64(`{"user":"svc","pass":"hunter2"}`):                    "it is JSON without a text in a field named passphrase",
		`{"snowflake":{"passphrase":"hunter2"}}`:                  "it is JSON without a text in a field named passphrase",
		"{}":                                                      "it is JSON without a text in a field named passphrase",
	} {
		_, err := Parse(secret.New([]byte(text)), secret.New([]byte(stored)))
		if err == nil || !strings.Contains(err.Error(), says) || failure.Class(err) != keyfile.ClassPassphrase {
			t.Errorf("error %v, want one with %q", err, says)
		}
		if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "svc") {
			t.Errorf("error %q repeats the value", err)
		}
		if !strings.HasSuffix(err.Error(), "; store the text of the passphrase alone") {
			t.Errorf("error %q does not say what to store", err)
		}
	}
}

// Such texts may be a passphrase with a typing error.
func TestParse_PassphraseThatLooksLikeJSONIsNotNamedSo(t *testing.T) {
	text := testdata(t, "aes256.p8")
	for _, stored := range []string{"{", "{hunter2}", `{"passphrase":"hunter2"}`, `{"snowflake":"hunter2"}`, `{"user":"svc","Passphrase":"hunter2"}`, "12345678"} {
		_, err := Parse(secret.New([]byte(text)), secret.New([]byte(stored)))
		if failure.Class(err) != keyfile.ClassPassphrase || strings.Contains(err.Error(), "JSON") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: error %v", stored, err)
		}
	}
}

func TestParse_WrongPassphraseNamesNothingOfIt(t *testing.T) {
	text := secret.New([]byte(testdata(t, "aes256.p8")))
	const wrong = "tr0ub4dor"
	for _, stored := range []string{wrong, `"` + wrong + `"`, b64(wrong), jsonOf(wrong + "\n"), url.PathEscape(" " + wrong)} {
		_, err := Parse(text, secret.New([]byte(stored)))
		if failure.Class(err) != keyfile.ClassPassphrase || strings.Contains(err.Error(), wrong) || strings.Contains(err.Error(), stored) {
			t.Errorf("error %v", err)
		}
	}
}
