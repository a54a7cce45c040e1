package decrypt

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

func utf16Of(order binary.AppendByteOrder, mark bool, text string) string {
	var out []byte
	if mark {
		text = "\ufeff" + text
	}
	for _, unit := range utf16.Encode([]rune(text)) {
		out = order.AppendUint16(out, unit)
	}
	return string(out)
}

func b64(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

func derOf(text string) []byte {
	block, _ := pem.Decode([]byte(text))
	return block.Bytes
}

// folded has lines of n letters.
func folded(text string, n int, end string) string {
	var out strings.Builder
	for len(text) > n {
		out.WriteString(text[:n] + end)
		text = text[n:]
	}
	return out.String() + text + end
}

func eachLine(text string, f func(string) string) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i := range lines {
		lines[i] = f(lines[i])
	}
	return strings.Join(lines, "\n") + "\n"
}

func replacer(pairs ...string) func(string) string { return strings.NewReplacer(pairs...).Replace }

func jsonOf(text string) string {
	quoted, _ := json.Marshal(text)
	return string(quoted)
}

// written are the ways in which people and programs write a key down, each made of a PEM, by who does.
var written = map[string]func(string) string{
	// One or more encodings.
	"base64 of the PEM: Airflow, JDBC, a CI variable":     b64,
	"base64 of the PEM, lines of 76: base64 of coreutils": func(p string) string { return folded(b64(p), 76, "\n") },
	"base64 of the PEM, lines of 76 with CRLF: MIME":      func(p string) string { return folded(b64(p), 76, "\r\n") },
	"base64 of the PEM, base64url: a JWT library":         func(p string) string { return base64.URLEncoding.EncodeToString([]byte(p)) },
	"base64 of the PEM, not padded":                       func(p string) string { return base64.RawStdEncoding.EncodeToString([]byte(p)) },
	"base64 of UTF-16: PowerShell's Unicode.GetBytes":     func(p string) string { return b64(utf16Of(binary.LittleEndian, false, p)) },
	"base64 of a PEM with CRLF: certutil -encode":         func(p string) string { return b64(strings.ReplaceAll(p, "\n", "\r\n")) },
	"base64 twice: a Kubernetes Secret from base64":       func(p string) string { return b64(b64(p)) },
	"base64 three times":                                  func(p string) string { return b64(b64(b64(p) + "\n")) },
	"base64 of base64 of the DER":                         func(p string) string { return b64(base64.StdEncoding.EncodeToString(derOf(p))) },
	"base64url of the DER: gosnowflake's DSN":             func(p string) string { return base64.URLEncoding.EncodeToString(derOf(p)) },
	"base64url of the DER, not padded":                    func(p string) string { return base64.RawURLEncoding.EncodeToString(derOf(p)) },
	"base64 of the DER, not padded":                       func(p string) string { return base64.RawStdEncoding.EncodeToString(derOf(p)) },
	"base64url between BEGIN and END":                     func(p string) string { return eachBody(p, replacer("+", "-", "/", "_", "=", "")) },
	"hexadecimal: xxd -p":                                 func(p string) string { return folded(hex.EncodeToString(derOf(p)), 60, "\n") },
	"a data URL: a browser's FileReader":                  func(p string) string { return "data:application/x-pem-file;base64," + b64(p) },
	"percent signs: a connection string":                  url.PathEscape,
	"percent signs and plus: a form":                      url.QueryEscape,
	"PEM within certutil's PEM": func(p string) string {
		return "-----BEGIN PRIVATE KEY-----\n" + folded(b64(p), 64, "\n") + "-----END PRIVATE KEY-----\n"
	},

	// Line ends.
	"CRLF: Windows":                            replacer("\n", "\r\n"),
	"CR alone":                                 replacer("\n", "\r"),
	"CR CR LF: a checkout within a checkout":   replacer("\n", "\r\r\n"),
	"form feeds":                               replacer("\n", "\f\n"),
	"vertical tabs: Word's line breaks":        replacer("\n", "\v"),
	"line separators of Unicode":               replacer("\n", "\u2028"),
	"empty lines between":                      replacer("\n", "\n\n"),
	"written out: docker's env files":          replacer("\n", `\n`),
	"written out with CR":                      replacer("\n", `\r\n`),
	"written out twice: JSON in JSON":          replacer("\n", `\\n`),
	"written out twice with CR":                replacer("\n", `\\r\\n`),
	"written out four times":                   replacer("\n", `\\\\n`),
	"written out beside real ones":             replacer("\n", "\\n\n"),
	"written out for PowerShell":               replacer("\n", "`n"),
	"written out for PowerShell, CRLF":         replacer("\n", "`r`n"),
	"written out in hexadecimal: systemd":      replacer("\n", `\x0a`),
	"written out in HTML":                      replacer("\n", "&#10;", "+", "&#43;", "=", "&#61;"),
	"written out in HTML, hexadecimal":         replacer("\n", "&#xA;", "+", "&#x2B;"),
	"lines that go on: a shell script":         replacer("\n", "\\\n"),
	"none at all":                              replacer("\n", ""),
	"spaces for them: echo $KEY":               replacer("\n", " "),
	"tabs for them":                            replacer("\n", "\t"),
	"no white space at all: tr -d '[:space:]'": replacer("\n", "", " ", ""),
	"+ escaped: .NET's JSON":                   replacer("\n", `\n`, "+", `\u002B`, "/", `\/`),
	"= escaped: Gson":                          replacer("\n", `\n`, "=", `\u003d`),
	"= escaped: a mail, quoted-printable":      replacer("=", "=3D"),
	"a space for each plus: a decoded form":    func(p string) string { return eachBody(p, replacer("+", " ")) },

	// Encodings of characters.
	"UTF-16 LE with mark: PowerShell's >":              func(p string) string { return utf16Of(binary.LittleEndian, true, p) },
	"UTF-16 BE with mark: Notepad":                     func(p string) string { return utf16Of(binary.BigEndian, true, p) },
	"UTF-16 LE without mark":                           func(p string) string { return utf16Of(binary.LittleEndian, false, p) },
	"UTF-16 BE without mark":                           func(p string) string { return utf16Of(binary.BigEndian, false, p) },
	"UTF-16 LE with mark and CRLF":                     func(p string) string { return utf16Of(binary.LittleEndian, true, strings.ReplaceAll(p, "\n", "\r\n")) },
	"UTF-16 taken for Latin-1: the AWS CLI on Windows": func(p string) string { return "ÿþ" + utf16Of(binary.LittleEndian, false, p) },
	"UTF-16 with a mark that was not UTF-8":            func(p string) string { return "\ufffd\ufffd" + utf16Of(binary.LittleEndian, false, p) },
	"UTF-16 of the base64 of the PEM":                  func(p string) string { return utf16Of(binary.LittleEndian, true, b64(p)) },
	"UTF-32": func(p string) string {
		return "\xff\xfe\x00\x00" + strings.Join(strings.Split(p, ""), "\x00\x00\x00") + "\x00\x00\x00"
	},
	"UTF-8 with mark: Notepad":             func(p string) string { return "\ufeff" + p },
	"UTF-8 with mark, base64":              func(p string) string { return b64("\ufeff" + p) },
	"UTF-8 with mark, taken for Latin-1":   func(p string) string { return "ï»¿" + p },
	"spaces that do not break: a web page": replacer(" ", "\u00a0"),
	"spaces without width: a chat":         func(p string) string { return eachLine(p, func(l string) string { return l + "\u200b" }) },
	"long dashes: Word, Outlook":           replacer("-----", "——-"),
	"dashes of a chat":                     replacer("-----", "–––––"),

	// Text around and inside.
	"quotation marks: docker's env files":     func(p string) string { return `"` + strings.ReplaceAll(p, "\n", `\n`) + `"` },
	"single quotation marks":                  func(p string) string { return "'" + p + "'" },
	"quotation marks around base64":           func(p string) string { return `"` + b64(p) + `"` },
	"round quotation marks: a word processor": func(p string) string { return "“" + b64(p) + "”" },
	"Python's bytes":                          func(p string) string { return "b'" + strings.ReplaceAll(p, "\n", `\n`) + "'" },
	"Python's bytes of base64":                func(p string) string { return "b'" + b64(p) + "'" },
	"a string of JSON: aws --output json":     jsonOf,
	"a string of JSON in one: jq without -r":  func(p string) string { return jsonOf(jsonOf(p)) },
	"a line of an env file":                   func(p string) string { return "export SECRET_KEY=\"" + p + "\"\n" },
	"a line of an env file, base64":           func(p string) string { return "SECRET_KEY=" + b64(p) },
	"a block of YAML": func(p string) string {
		return "privateKey: |\n" + eachLine(p, func(l string) string { return "    " + l })
	},
	"a block of YAML, base64": func(p string) string { return "privateKey: " + b64(p) },
	"a here document of Terraform": func(p string) string {
		return "<<-EOT\n" + eachLine(p, func(l string) string { return "  " + l }) + "EOT\n"
	},
	"a cell of a spreadsheet":     func(p string) string { return "svc_etl\t\"" + p + "\"\tprod\n" },
	"an apostrophe before a cell": func(p string) string { return "'" + p },
	"a quoted mail":               func(p string) string { return eachLine(p, func(l string) string { return "> " + l }) },
	"a mail quoted twice": func(p string) string {
		return "On Monday x wrote:\n" + eachLine(p, func(l string) string { return ">> " + l })
	},
	"a comment":                   func(p string) string { return eachLine(p, func(l string) string { return "# " + l }) },
	"strings joined in a program": func(p string) string { return eachLine(p, func(l string) string { return `  "` + l + `\n" +` }) },
	"code fences: a chat":         func(p string) string { return "```\n" + p + "```\n" },
	"headers in the block": func(p string) string {
		return strings.Replace(p, "-----\n", "-----\nComment: made by me\nX-Owner: etl\n\n", 1)
	},
	"a diff": func(p string) string { return eachLine(p, func(l string) string { return "+" + l }) },
	"numbered lines": func(p string) string {
		n := 0
		return eachLine(p, func(l string) string { n++; return fmt.Sprintf("%6d\t%s", n, l) })
	},
	"BEGIN twice":                func(p string) string { return p[:strings.Index(p, "\n")+1] + p },
	"semicolons for line breaks": replacer("\n", ";"),
	"HTML":                       func(p string) string { return "<pre>" + p + "</pre>" },
	"bag attributes: openssl pkcs12": func(p string) string {
		return "Bag Attributes\n    localKeyID: 01 23 \nKey Attributes: <No Attributes>\n" + p
	},
	"text after it":      func(p string) string { return p + "% \n" },
	"white space around": func(p string) string { return " \t\r\n\n" + p + "\n \t" },

	// Dashes and labels.
	"a dash is missing before BEGIN":                     func(p string) string { return strings.TrimPrefix(p, "-") },
	"a dash is missing at the end":                       func(p string) string { return strings.TrimSuffix(p, "-\n") },
	"no dashes at the end":                               func(p string) string { return strings.TrimSuffix(p, "-----\n") },
	"no dashes: a command line takes them for an option": replacer("-----", ""),
	"underscores for spaces: a CI variable":              replacer(" ", "_"),
	"the label of another kind":                          replacer("ENCRYPTED PRIVATE KEY", "PRIVATE KEY", "BEGIN PRIVATE", "BEGIN RSA PRIVATE", "END PRIVATE", "END RSA PRIVATE"),
	"END of another label":                               replacer("END ENCRYPTED PRIVATE", "END PRIVATE", "END PRIVATE", "END RSA PRIVATE"),
	"BEGIN line lost":                                    func(p string) string { return p[strings.Index(p, "\n")+1:] },
	"END line lost":                                      func(p string) string { return p[:strings.LastIndex(p, "-----END")] },
}

// eachBody changes what is between BEGIN and END.
func eachBody(text string, f func(string) string) string {
	return eachLine(text, func(line string) string {
		if strings.HasPrefix(line, "-----") {
			return line
		}
		return f(line)
	})
}

func testdata(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestParse_WrittenForms(t *testing.T) {
	fingerprint := fingerprintIn(t, "testdata")
	plain, encrypted := testdata(t, "rsa.pem"), testdata(t, "aes256.p8")
	for name, write := range written {
		t.Run(name, func(t *testing.T) {
			if key := checkParity(t, []byte(write(plain))); key == nil || key.Fingerprint() != fingerprint {
				t.Errorf("not encrypted: read %v", key)
			}
			stored, err := Parse(secret.New([]byte(write(encrypted))), secret.New([]byte(passphrase)))
			if err != nil || stored.Key.Fingerprint() != fingerprint {
				t.Errorf("encrypted: read %v, %v", stored.Key, err)
			}
			if stored.Reading != "" || string(stored.Passphrase.Bytes()) != passphrase {
				t.Errorf("the passphrase was read %s", stored.Reading)
			}
		})
	}
}

// In a managed secret every form of a key is read, too, and so is JSON that was encoded itself.
func TestParse_WrittenManagedSecrets(t *testing.T) {
	fingerprint := fingerprintIn(t, "testdata")
	encrypted := testdata(t, "aes256.p8")
	read := func(t *testing.T, text string) {
		t.Helper()
		stored, err := Parse(secret.New([]byte(text)), secret.Value{})
		if err != nil || stored.Key.Fingerprint() != fingerprint {
			t.Fatalf("read %v, %v", stored.Key, err)
		}
		if want := (Login{Account: "ORG-NAME", User: "SVC"}); !stored.Managed || stored.Login != want {
			t.Errorf("managed %v, login %+v", stored.Managed, stored.Login)
		}
	}
	object := func(key string) string {
		text, _ := json.Marshal(map[string]string{"account": "ORG-NAME", "user": "SVC", "privateKey": key, "passphrase": passphrase})
		return string(text)
	}
	for name, write := range written {
		if key := write(encrypted); utf8.ValidString(key) { // as JSON is
			t.Run(name, func(t *testing.T) { read(t, object(key)) })
		}
	}
	for name, write := range map[string]func(string) string{
		"UTF-16 with mark: PowerShell's >":  func(o string) string { return utf16Of(binary.LittleEndian, true, o) },
		"a byte order mark":                 func(o string) string { return "\ufeff" + o },
		"a string of JSON":                  jsonOf,
		"base64: a binary secret":           b64,
		"base64, in lines: a binary secret": func(o string) string { return folded(b64(o), 76, "\n") },
		"base64 of UTF-16":                  func(o string) string { return b64(utf16Of(binary.LittleEndian, false, o)) },
		"line breaks of Windows between":    func(o string) string { return strings.ReplaceAll(o, `","`, "\",\r\n\t\"") },
	} {
		t.Run("object: "+name, func(t *testing.T) { read(t, write(object(encrypted))) })
	}
}

// What holds no key is named for what it is.
func TestParse_NamesOtherTexts(t *testing.T) {
	for text, says := range map[string]string{
		"arn:aws:secretsmanager:eu-west-1:123456789012:secret:app/key-AbCdEf": "only names a key",
		"file://rsa_key.p8":                    "only names a key",
		"/run/secrets/rsa_key.p8":              "only names a key",
		"./rsa_key.p8":                         "only names a key",
		"rsa_key.pem":                          "only names a key",
		"{{resolve:ssm-secure:/app/key:1}}":    "only names a key",
		"${SNOWFLAKE_PRIVATE_KEY}":             "only names a key",
		"$(cat rsa_key.p8)":                    "only names a key",
		"#NAME?":                               "leaves where a key is missing",
		"null":                                 "leaves where a key is missing",
		`"<no value>"`:                         "leaves where a key is missing",
		"(sensitive value)":                    "leaves where a key is missing",
		"AQICAHhYq3vJ0123456789":               "still encrypted by AWS KMS",
		"$ANSIBLE_VAULT;1.1;AES256\n3132\n":    "still encrypted by AWS KMS, SOPS or Ansible Vault",
		"ENC[AES256_GCM,data:xx,iv:yy,tag:zz]": "still encrypted",
		"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAB": "public key",
		"PuTTY-User-Key-File-3: ssh-rsa\n":     "PuTTY's own format",
		`{"kty":"RSA","n":"AQAB"}`:             "JSON Web Key",
		`{"keys":[{"kty":"RSA"}]}`:             "JSON Web Key",
		`{"private_key":"x"}`:                  "JSON without privateKey",
		"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOYBF\n-----END PGP PRIVATE KEY BLOCK-----\n": "pgp private key block",
		"correct horse battery staple": "neither PEM nor base64",
	} {
		for _, written := range []string{text, text + "\r\n", b64(text)} {
			_, err := Parse(secret.New([]byte(written)), secret.Value{})
			if written == b64(text) && says == "neither PEM nor base64" {
				continue // it is base64
			}
			if err == nil || !strings.Contains(err.Error(), says) || failure.Class(err) != keyfile.ClassUnreadableKey {
				t.Errorf("%q: error %v, want one with %q", written, err, says)
			}
		}
	}
}

// A character is shown, with its place, where a key is not whole without it.
func TestParse_ForeignCharacter(t *testing.T) {
	encrypted := testdata(t, "aes256.p8")
	at := strings.Index(encrypted, "\n") + 1 + 2*65 + 9
	spoilt := func(with string) string { return encrypted[:at] + with + encrypted[at+1:] }
	for name, tc := range map[string]struct{ text, says string }{
		"a letter was replaced":           {spoilt("*"), "'*' (U+002A) in line 4, column 10 is no base64"},
		"by one that is not ASCII":        {spoilt("é"), "'é' (U+00E9) in line 4, column 10 is no base64"},
		"by one that is no UTF-8":         {spoilt("\xe9"), "in line 4, column 10 is no base64"},
		"by dots: a program shortened it": {encrypted[:at] + "..." + encrypted[at+200:], "'.' (U+002E) in line 4, column 10"},
		"with CRLF":                       {strings.ReplaceAll(spoilt("*"), "\n", "\r\n"), "in line 4, column 10"},
		"in base64 without BEGIN":         {strings.Join(strings.Split(spoilt("*"), "\n")[1:29], "\n"), "in line 3, column 10"},
		"in base64 of it":                 {b64(spoilt("*")), "in line 4, column 10"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(secret.New([]byte(tc.text)), secret.New([]byte(passphrase)))
			if err == nil || !strings.Contains(err.Error(), tc.says) || failure.Class(err) != keyfile.ClassUnreadableKey {
				t.Errorf("error %v, want one with %q", err, tc.says)
			}
		})
	}
}
