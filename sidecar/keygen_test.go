package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/snowkey/snowkey/internal/local/localssm"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

const (
	newKey  = "/new/key"
	newPass = "/new/pass"
)

// newKeygen is a task whose parameters are not there yet, and whose SNOWFLAKE_USER is known. The KMS key alias/app is there.
func newKeygen(t *testing.T) *task {
	testenv.Heavy(t)
	k := newTask(t)
	k.ssm.CreateKMSKey("alias/app")
	k.env["SNOWKEY_KEY_PARAMETER"], k.env["SNOWKEY_PASSPHRASE_PARAMETER"] = newKey, newPass
	k.env["SNOWFLAKE_USER"] = "APP_USER"
	k.env["AWS_MAX_ATTEMPTS"] = "1"
	return k
}

func (k *task) path(name string) string { return filepath.Join(k.dir, name) }

// keygen runs the command and searches all that it printed for the key and passphrase that it made.
func (k *task) keygen(args ...string) *process {
	k.t.Helper()
	p := k.do(append([]string{"keygen"}, args...)...)
	made := search{map[string]string{}, map[int]bool{}}
	for _, path := range []string{"rsa_key.p8", "rsa_key.passphrase", "passphrase"} {
		if data, err := os.ReadFile(k.path(path)); err == nil {
			made.markMade(k.t, path, data)
		}
	}
	for _, name := range []string{newKey, newPass} {
		if value, ok := k.stored(name); ok {
			made.markMade(k.t, name, []byte(value))
		}
	}
	for name, text := range p.outputs() {
		if found := made.in(text); found != "" {
			k.t.Errorf("%s: there is %s in its %s:\n%s", p, found, name, text)
		}
	}
	return p
}

// markMade adds a passphrase, or a key without the object identifiers that every key begins with.
func (s search) markMade(t *testing.T, what string, data []byte) {
	t.Helper()
	if block, _ := pem.Decode(data); block != nil {
		data = block.Bytes[100:]
	}
	s.mark(what, data)
}

// stored is the latest value of a parameter.
func (k *task) stored(name string) (string, bool) {
	all := k.history(name)
	if len(all) == 0 {
		return "", false
	}
	return all[len(all)-1], true
}

// history are all values of a parameter.
func (k *task) history(name string) []string { return k.ssm.Values(name) }

// opened is the key that a PEM text and its passphrase make.
func opened(t *testing.T, text, passphrase string) *keyfile.Key {
	t.Helper()
	stored, err := decrypt.Parse(secret.New([]byte(text)), secret.New([]byte(passphrase)))
	if err != nil {
		t.Fatal(err)
	}
	return stored.Key
}

var statement = regexp.MustCompile(`(?m)^ALTER USER (\S+) SET RSA_PUBLIC_KEY='([^']+)';$`)

// assigns checks that the output has what an administrator needs to assign this key.
func (p *process) assigns(user string, key *keyfile.Key) {
	p.t.Helper()
	out := p.stdout.String()
	m := statement.FindStringSubmatch(out)
	if m == nil || m[1] != user {
		p.t.Fatalf("no statement for %s in\n%s", user, out)
	}
	der, err := base64.StdEncoding.DecodeString(m[2])
	p.must(err)
	public, err := keyfile.Fingerprint(&key.RSA().PublicKey)
	p.must(err)
	block := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	if got := opensslFingerprint(p.t, block); got != public {
		p.t.Errorf("the statement has the key %s, want %s", got, public)
	}
	if line := "fingerprint: " + public + "\n"; !strings.Contains(out, line) {
		p.t.Errorf("no %q in\n%s", line, out)
	}
}

// openssl is the program that is not ours.
func openssl(t *testing.T, stdin []byte, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("REQUIRE_OPENSSL") != "" {
			t.Fatal("REQUIRE_OPENSSL is set and there is no openssl program")
		}
		t.Skip("no openssl program here")
	}
	cmd := exec.CommandContext(t.Context(), "openssl", args...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func opensslFingerprint(t *testing.T, public []byte) string {
	t.Helper()
	der := openssl(t, public, "pkey", "-pubin", "-outform", "der")
	digest := openssl(t, []byte(der), "dgst", "-sha256", "-binary")
	return "SHA256:" + strings.TrimSpace(openssl(t, []byte(digest), "base64"))
}

func (k *task) wantMode(name string, want fs.FileMode) {
	k.t.Helper()
	info, err := os.Stat(k.path(name))
	k.must(err)
	if info.Mode() != want {
		k.t.Errorf("%s has mode %v, want %v", name, info.Mode(), want)
	}
}

// wantFiles checks that these files are in the directory and no others.
func (k *task) wantFiles(names ...string) {
	k.t.Helper()
	entries, err := os.ReadDir(k.dir)
	k.must(err)
	var found []string
	for _, e := range entries {
		found = append(found, e.Name())
	}
	if fmt.Sprint(found) != fmt.Sprint(names) {
		k.t.Errorf("there are %q, want %q", found, names)
	}
}

func TestKeygen_WritesAKeyThatOpensslReads(t *testing.T) {
	t.Parallel()
	for _, bits := range []string{"2048", "3072"} { // 4096 takes long; a test of keygen makes one
		t.Run(bits, func(t *testing.T) {
			t.Parallel()
			k := newKeygen(t)
			p := k.keygen("--generate-passphrase", "--bits", bits, "--out", k.path("rsa_key.p8"))
			p.want(exitDone, k.path("rsa_key.p8"), k.path("rsa_key.passphrase"), k.path("rsa_key.pub"), bits+" bits")
			k.wantFiles("rsa_key.p8", "rsa_key.passphrase", "rsa_key.pub")
			k.wantMode("rsa_key.p8", 0o600)
			k.wantMode("rsa_key.passphrase", 0o600)
			said := openssl(t, nil, "pkey", "-in", k.path("rsa_key.p8"), "-passin", "file:"+k.path("rsa_key.passphrase"), "-check", "-noout", "-text")
			for _, want := range []string{"Key is valid", bits + " bit"} {
				if !strings.Contains(said, want) {
					t.Errorf("openssl does not say %q", want)
				}
			}
			public := openssl(t, nil, "pkey", "-in", k.path("rsa_key.p8"), "-passin", "file:"+k.path("rsa_key.passphrase"), "-pubout")
			if content(t, k.path("rsa_key.pub")) != public {
				t.Error("the public key is another one than openssl's")
			}
			p.assigns("APP_USER", opened(t, content(t, k.path("rsa_key.p8")), content(t, k.path("rsa_key.passphrase"))))
			if calls := k.ssm.Calls(); len(calls) > 0 {
				t.Errorf("without --put it called %v", calls)
			}
		})
	}
}

func TestKeygen_TakesTheGivenPassphrase(t *testing.T) {
	t.Parallel()
	for name, give := range map[string]func(*task) []string{
		"in the environment":   func(k *task) []string { k.env["PRIVATE_KEY_PASSPHRASE"] = passphrase; return nil },
		"in a file":            func(k *task) []string { return []string{"--passphrase-file", k.write("p", passphrase)} },
		"in a file of Notepad": func(k *task) []string { return []string{"--passphrase-file", k.write("p", "\ufeff"+passphrase+"\r\n")} },
		"in a file of PowerShell": func(k *task) []string {
			units := utf16.Encode([]rune("\ufeff" + passphrase + "\r\n"))
			text := make([]byte, 2*len(units))
			for i, unit := range units {
				binary.LittleEndian.PutUint16(text[2*i:], unit)
			}
			return []string{"--passphrase-file", k.write("p", string(text))}
		},
		"in a file with its line": func(k *task) []string { return []string{"--passphrase-file", k.write("p", passphrase+"\r\n")} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKeygen(t)
			p := k.keygen(append(give(k), "--out", k.path("rsa_key.p8"))...)
			p.want(exitDone)
			p.assigns("APP_USER", opened(t, content(t, k.path("rsa_key.p8")), passphrase))
		})
	}
}

func (k *task) write(name, text string) (path string) {
	k.t.Helper()
	path = filepath.Join(k.t.TempDir(), name)
	k.must(os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestKeygen_NamesTheUserAsSnowflakeTakesIt(t *testing.T) {
	t.Parallel()
	for user, want := range map[string]string{"": "<user>", "app_user": "APP_USER", "jane@example.com": `"jane@example.com"`} {
		k := newKeygen(t)
		k.env["SNOWFLAKE_USER"] = user
		k.keygen("--generate-passphrase", "--out", k.path("rsa_key.p8")).
			assigns(want, opened(t, content(t, k.path("rsa_key.p8")), content(t, k.path("rsa_key.passphrase"))))
	}
}

func TestKeygen_OverwritesNoFile(t *testing.T) {
	t.Parallel()
	for _, there := range []string{"rsa_key.p8", "rsa_key.pub", "rsa_key.passphrase"} {
		t.Run(there, func(t *testing.T) {
			t.Parallel()
			k := newKeygen(t)
			k.must(os.WriteFile(k.path(there), []byte("mine"), 0o600))
			k.keygen("--generate-passphrase", "--out", k.path("rsa_key.p8")).want(exitFailed, there+" exists", "move it away")
			k.wantFiles(there)
			if got := content(t, k.path(there)); got != "mine" {
				t.Errorf("it holds %q now", got)
			}
		})
	}
	t.Run("a link to nowhere", func(t *testing.T) {
		t.Parallel()
		k := newKeygen(t)
		k.must(os.Symlink(k.path("elsewhere"), k.path("rsa_key.p8")))
		k.keygen("--generate-passphrase", "--out", k.path("rsa_key.p8")).want(exitFailed, "exists")
		k.wantFiles("rsa_key.p8")
	})
}

// A file that fails takes those with it that were written before.
func TestKeygen_WritesAllFilesOrNone(t *testing.T) {
	t.Parallel()
	k := newKeygen(t)
	k.must(os.WriteFile(k.path("file"), nil, 0o600))
	k.keygen("--generate-passphrase", "--out", k.path("rsa_key.p8"), "--public-out", k.path("file/rsa_key.pub")).
		want(exitFailed, "file/rsa_key.pub", "directory that exists")
	k.wantFiles("file")
}

func TestKeygen_NamesTheDirectoryThatIsMissing(t *testing.T) {
	t.Parallel()
	k := newKeygen(t)
	p := k.keygen("--generate-passphrase", "--out", k.path("missing/rsa_key.p8"))
	p.want(exitFailed, "there is no directory "+k.path("missing"), "create it")
	if strings.Contains(p.stderr.String(), ".passphrase") {
		t.Error("it names a file that nobody named")
	}
	k.wantFiles()
}

func TestKeygen_RefusesWrongSettings(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args []string
		env  env
		says []string
	}{
		"no passphrase":             {nil, nil, []string{"no terminal to ask", "PRIVATE_KEY_PASSPHRASE", "--generate-passphrase"}},
		"a short passphrase":        {nil, env{"PRIVATE_KEY_PASSPHRASE": "1234567"}, []string{"shorter than 8"}},
		"an empty passphrase":       {nil, env{"PRIVATE_KEY_PASSPHRASE": ""}, []string{"shorter than 8"}},
		"a passphrase of two lines": {nil, env{"PRIVATE_KEY_PASSPHRASE": passphrase + "\n" + passphrase}, []string{"line break"}},
		"two passphrases":           {[]string{"--generate-passphrase"}, env{"PRIVATE_KEY_PASSPHRASE": passphrase}, []string{"keep one"}},
		"a passphrase as a flag":    {[]string{"--passphrase=" + passphrase}, nil, []string{"no such flag: --passphrase"}},
		"1024 bits":                 {[]string{"--bits=1024"}, nil, []string{`--bits="1024"`, "2048, 3072 or 4096"}},
		"standard output":           {[]string{"--out=-"}, nil, []string{`--out="-"`, "name a file"}},
		"no file":                   {[]string{"--out="}, nil, []string{"name a file"}},
		"one file for two":          {[]string{"--generate-passphrase", "--passphrase-file=k", "--out=k"}, nil, []string{"name another"}},
		"tags for a file":           {[]string{"--tag=a=b"}, nil, []string{"go with --put"}},
		"overwriting a file":        {[]string{"--overwrite"}, nil, []string{"go with --put", "never overwritten"}},
		"a tag without a value":     {[]string{"--put", "--tag=a"}, nil, []string{"key=value"}},
		"a tag twice":               {[]string{"--put", "--tag=a=1", "--tag=a=2"}, nil, []string{"each tag once"}},
		"nowhere to put it":         {[]string{"--put"}, env{"SNOWKEY_PASSPHRASE_PARAMETER": ""}, []string{"--passphrase-parameter"}},
		"both in one":               {[]string{"--put"}, env{"SNOWKEY_PASSPHRASE_PARAMETER": newKey}, []string{"store the two apart"}},
		"a version":                 {[]string{"--put"}, env{"SNOWKEY_KEY_PARAMETER": newKey + ":3"}, []string{"--key-parameter: a version or label is read only"}},
		"Secrets Manager":           {[]string{"--put"}, env{"SNOWKEY_KEY_PARAMETER": "/aws/reference/secretsmanager/key"}, []string{"Secrets Manager is read only"}},
		"no Region":                 {[]string{"--put", "--generate-passphrase"}, env{"AWS_REGION": ""}, []string{"set AWS_REGION"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKeygen(t)
			for name, value := range tc.env {
				k.env[name] = value
			}
			args := tc.args
			if !strings.Contains(strings.Join(args, " "), "--out") && !strings.Contains(strings.Join(args, " "), "--put") {
				args = append([]string{"--out", k.path("rsa_key.p8")}, args...)
			}
			k.keygen(args...).want(exitUsage, tc.says...)
			k.wantFiles()
			if stored, ok := k.stored(newPass); ok {
				t.Errorf("%s holds %d bytes", newPass, len(stored))
			}
		})
	}
	t.Run("a passphrase file that is not there", func(t *testing.T) {
		t.Parallel()
		k := newKeygen(t)
		k.keygen("--out", k.path("rsa_key.p8"), "--passphrase-file", k.path("missing")).want(exitFailed, "missing", "has the passphrase")
		k.wantFiles()
	})
}

// The sidecar publishes what keygen has put.
func TestKeygen_PutsAKeyThatOncePublishes(t *testing.T) {
	t.Parallel()
	k := newKeygen(t)
	p := k.keygen("--put", "--generate-passphrase", "--kms-key", "alias/app", "--tag", "team=data", "--tag", "env=prod")
	p.want(exitDone, newKey+": private key, version 1", newPass+": passphrase, version 1")
	k.wantFiles()
	text, _ := k.stored(newKey)
	pass, _ := k.stored(newPass)
	key := opened(t, text, pass)
	p.assigns("APP_USER", key)
	for _, name := range []string{newKey, newPass} {
		got := k.ssm.Description(name)
		want := localssm.Description{Type: "SecureString", Tier: "Standard", KeyID: "alias/app", Tags: map[string]string{"team": "data", "env": "prod"}}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s is stored as %v, want %v", name, got, want)
		}
	}
	k.do("once").want(exitDone, "published "+key.Fingerprint())
}

func TestKeygen_StoresNothingWithoutItsKMSKey(t *testing.T) {
	t.Parallel()
	k := newKeygen(t)
	k.keygen("--put", "--generate-passphrase", "--kms-key", "alias/none").want(exitFailed, "InvalidKeyId", "alias/none is not found", "nothing was stored")
	k.ssm.DisableKMSKey("alias/app")
	k.keygen("--put", "--generate-passphrase", "--kms-key", "alias/app").want(exitFailed, "InvalidKeyId", "is disabled", "nothing was stored")
	k.wantFiles()
	for _, name := range []string{newKey, newPass} {
		if _, ok := k.stored(name); ok {
			t.Errorf("%s is stored", name)
		}
	}
}

func TestKeygen_PutsIntoFilesAsWell(t *testing.T) {
	t.Parallel()
	k := newKeygen(t)
	k.env["PRIVATE_KEY_PASSPHRASE"] = passphrase
	k.keygen("--put", "--out", k.path("rsa_key.p8")).want(exitDone)
	k.wantFiles("rsa_key.p8", "rsa_key.pub")
	if stored, _ := k.stored(newKey); stored != content(t, k.path("rsa_key.p8")) {
		t.Error("file and parameter differ")
	}
}

// Without its parameters the key in a file has no passphrase any more, and the file blocks the next try.
func TestKeygen_KeepsNoFileOfAKeyThatIsNotStored(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		on, code string
		stays    bool
	}{
		"no passphrase":          {newPass, "InvalidKeyId", false},
		"no key":                 {newKey, "InvalidKeyId", false},
		"the key, perhaps":       {newKey, "InternalServerError", true},
		"no passphrase, perhaps": {newPass, "InternalServerError", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKeygen(t)
			k.ssm.Intercept(func(c localssm.Call) *localssm.Fault {
				if c.Action == "PutParameter" && c.Names[0] == tc.on {
					return &localssm.Fault{Code: tc.code}
				}
				return nil
			})
			args := []string{"--put", "--generate-passphrase", "--overwrite", "--out", k.path("rsa_key.p8")}
			p := k.keygen(args...)
			k.ssm.Intercept(nil)
			if tc.stays {
				p.want(exitFailed, "move "+k.path("rsa_key.p8")+" and what is beside it away, then run the same")
				k.wantFiles("rsa_key.p8", "rsa_key.pub")
				return
			}
			p.want(exitFailed)
			k.wantFiles()
			k.keygen(args...).want(exitDone)
			if stored, _ := k.stored(newKey); stored != content(t, k.path("rsa_key.p8")) {
				t.Error("file and parameter differ")
			}
		})
	}
}

func TestKeygen_OverwritesNoParameterUnasked(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]string{
		newKey:  {newKey + " exists already (version 1)", "sidecar rotate", "--overwrite"},
		newPass: {newPass + " exists already (version 1)", "--overwrite"},
	} {
		k := newKeygen(t)
		k.ssm.Put(name, "what was there")
		k.keygen("--put", "--generate-passphrase").want(exitFailed, append(want, "nothing was made")...)
		for _, call := range k.ssm.Calls() {
			if call.Action == "PutParameter" {
				t.Errorf("%s: there is a call of PutParameter", name)
			}
		}
	}
}

// A key that replaces another has the passphrase that is there: the change is one version of one parameter.
func TestKeygen_OverwritesTheKeyAndKeepsThePassphrase(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"none given": nil, "another one requested": {"--generate-passphrase"}, "the same given": {"--passphrase-file", "SAME"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKeygen(t)
			k.keygen("--put", "--generate-passphrase", "--kms-key", "alias/app").want(exitDone)
			pass, _ := k.stored(newPass)
			for i := range args {
				if args[i] == "SAME" {
					args[i] = k.write("same", pass+"\n")
				}
			}
			p := k.keygen(append([]string{"--put", "--overwrite", "--tag", "a=b"}, args...)...)
			p.want(exitDone, newKey+": private key, version 2", "at their next refresh")
			if all := k.history(newPass); len(all) != 1 {
				t.Errorf("the passphrase has %d versions", len(all))
			}
			text, _ := k.stored(newKey)
			p.assigns("APP_USER", opened(t, text, pass))
			if got := k.ssm.Description(newKey); got.KeyID != "alias/app" || got.Tags["a"] != "b" {
				t.Errorf("the second version is stored as %v", got)
			}
		})
	}
}

func TestKeygen_SaysThatStoredPassphraseIsKept(t *testing.T) {
	t.Parallel()
	k := newKeygen(t)
	const kept = "the stored passphrase was kept"
	first := k.keygen("--put", "--generate-passphrase")
	first.want(exitDone)
	if strings.Contains(first.stderr.String(), kept) {
		t.Errorf("it says so of a passphrase that it made: %s", first.stderr.String())
	}
	k.keygen("--put", "--overwrite", "--generate-passphrase").want(exitDone, newPass+": "+kept)
}

func TestKeygen_ReplacesNoPassphrase(t *testing.T) {
	t.Parallel()
	k := newKeygen(t)
	k.ssm.Put(newPass, nextPassphrase)
	k.env["PRIVATE_KEY_PASSPHRASE"] = passphrase
	k.keygen("--put", "--overwrite").want(exitFailed, newPass+" holds another passphrase", "under new names")
	if all := k.history(newPass); len(all) != 1 {
		t.Errorf("the passphrase has %d versions", len(all))
	}
	if _, ok := k.stored(newKey); ok {
		t.Error("a key is stored")
	}
}

func TestKeygen_RefusesAParameterThatIsNotEncrypted(t *testing.T) {
	t.Parallel()
	k := newKeygen(t)
	k.ssm.PutString(newKey, "in the clear")
	k.keygen("--put", "--overwrite", "--generate-passphrase").want(exitFailed, newKey+" is of type String", "not encrypted")
}

// Each call fails once. The message says what is stored by then, which does no harm, and the same command with
// --overwrite completes key and passphrase.
func TestKeygen_SaysTheStateAfterAFailure(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		action, on string
		fault      localssm.Fault
		says       []string
		assigned   bool
	}{
		"reading the key":         {"GetParameterHistory", newKey, localssm.Fault{Code: "AccessDeniedException", Message: "User: arn:aws:sts::123456789012:assumed-role/admin/me is not authorized to perform: ssm:GetParameterHistory on resource: x"}, []string{"nothing was made", "allow ssm:GetParameterHistory", "arn:aws:ssm:us-east-1:123456789012:parameter" + newKey}, false},
		"reading the passphrase":  {"GetParameterHistory", newPass, localssm.Fault{Code: "ThrottlingException"}, []string{"nothing was made", "in a minute"}, false},
		"the passphrase refused":  {"PutParameter", newPass, localssm.Fault{Code: "InvalidKeyId"}, []string{"nothing was stored", "alias/NAME"}, false},
		"the passphrase exists":   {"PutParameter", newPass, localssm.Fault{Code: "ParameterAlreadyExists"}, []string{"was not there a moment ago", "the key was not stored", "--overwrite"}, false},
		"the passphrase, perhaps": {"PutParameter", newPass, localssm.Fault{Status: 500, Code: "InternalServerError"}, []string{"is not known", "nothing that runs is affected", "--overwrite"}, false},
		"the key refused":         {"PutParameter", newKey, localssm.Fault{Code: "AccessDeniedException", Message: "User: x is not authorized to perform: ssm:PutParameter on resource: y"}, []string{"the passphrase is in " + newPass, "the key is not stored", "nothing that runs is affected", "allow ssm:PutParameter", "--overwrite"}, false},
		"the key exists":          {"PutParameter", newKey, localssm.Fault{Code: "ParameterAlreadyExists"}, []string{"the passphrase is in " + newPass, "is not known", "--overwrite"}, false},
		"the key, perhaps":        {"PutParameter", newKey, localssm.Fault{Status: 500, Code: "InternalServerError"}, []string{"the passphrase is in " + newPass, "is not known", "--overwrite"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKeygen(t)
			k.ssm.Intercept(func(c localssm.Call) *localssm.Fault {
				if c.Action == tc.action && len(c.Names) > 0 && c.Names[0] == tc.on {
					return &tc.fault
				}
				return nil
			})
			p := k.keygen("--put", "--generate-passphrase")
			p.want(exitFailed, tc.says...)
			if assigned := statement.MatchString(p.stdout.String()); assigned != tc.assigned {
				t.Errorf("there is a statement: %v, want %v", assigned, tc.assigned)
			}
			if _, ok := k.stored(newKey); ok {
				t.Error("a key is stored")
			}
			k.ssm.Intercept(nil)
			p = k.keygen("--put", "--generate-passphrase", "--overwrite")
			p.want(exitDone)
			text, _ := k.stored(newKey)
			pass, _ := k.stored(newPass)
			p.assigns("APP_USER", opened(t, text, pass))
		})
	}
}

func TestKeygen_SaysTheStateAfterAFailedReplacement(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		action, on string
		code       string
		says       []string
		versions   int
	}{
		"reading the passphrase": {"GetParameter", newPass, "InvalidKeyId", []string{"enabled"}, 1},
		"the key refused":        {"PutParameter", newKey, "ParameterMaxVersionLimitExceeded", []string{"nothing was stored", "unlabel-parameter-version"}, 1},
		"the key, perhaps":       {"PutParameter", newKey, "InternalServerError", []string{"is not known", "latest version is 1"}, 1},
		"the tags":               {"AddTagsToResource", newKey, "ThrottlingException", []string{"the key is stored, its tags are not"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKeygen(t)
			k.keygen("--put", "--generate-passphrase").want(exitDone)
			k.ssm.Intercept(func(c localssm.Call) *localssm.Fault {
				if c.Action == tc.action && c.Names[0] == tc.on {
					return &localssm.Fault{Code: tc.code}
				}
				return nil
			})
			k.keygen("--put", "--overwrite", "--tag", "a=b").want(exitFailed, tc.says...)
			k.ssm.Intercept(nil)
			if all := k.history(newKey); len(all) != tc.versions {
				t.Errorf("the key has %d versions, want %d", len(all), tc.versions)
			}
			pass, _ := k.stored(newPass)
			text, _ := k.stored(newKey)
			opened(t, text, pass)
		})
	}
}

// keygen --put prints the public half, which has to be assigned.
func TestKeygen_SaysThatItCouldNotPrint(t *testing.T) {
	t.Parallel()
	k := newKeygen(t)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { full.Close() })
	k.stdout = full
	k.do("keygen", "--generate-passphrase", "--out", k.path("rsa_key.p8")).want(exitFailed, "its public half could not be printed", "it is in "+k.path("rsa_key.pub"))
	k.do("keygen", "--generate-passphrase", "--put").want(exitFailed, "private key, version 1", "--name /new/key ", "openssl pkey -pubout")
}

// AWS takes only names in calls that write, and here is a parameter of the same name.
func TestKeygen_PutRefusesAnARNOfAnotherAccountOrRegion(t *testing.T) {
	t.Parallel()
	own := "arn:aws:ssm:us-east-1:123456789012:parameter"
	for name, tc := range map[string]struct {
		arn  string
		code int
		says string
	}{
		"account": {"arn:aws:ssm:us-east-1:999999999999:parameter", exitFailed, "another account"},
		"Region":  {"arn:aws:ssm:eu-west-1:123456789012:parameter", exitUsage, "AWS_REGION=eu-west-1"},
	} {
		for _, arns := range []map[string]string{
			{"SNOWKEY_KEY_PARAMETER": tc.arn + newKey, "SNOWKEY_PASSPHRASE_PARAMETER": tc.arn + newPass},
			{"SNOWKEY_KEY_PARAMETER": tc.arn + newKey, "SNOWKEY_PASSPHRASE_PARAMETER": newPass},
			{"SNOWKEY_KEY_PARAMETER": own + newKey, "SNOWKEY_PASSPHRASE_PARAMETER": tc.arn + newPass},
		} {
			k := newKeygen(t)
			k.keygen("--put", "--generate-passphrase").want(exitDone)
			for variable, value := range arns {
				k.env[variable] = value
			}
			for _, args := range [][]string{{"--put", "--overwrite"}, {"--put", "--generate-passphrase"}} {
				k.keygen(args...).want(tc.code, tc.says)
			}
			for _, parameter := range []string{newKey, newPass} {
				if n := len(k.history(parameter)); n != 1 {
					t.Errorf("%s: %s has %d versions", name, parameter, n)
				}
			}
		}
	}
}

func TestKeygen_PutSaysTheARN(t *testing.T) {
	t.Parallel()
	k := newKeygen(t)
	k.keygen("--put", "--generate-passphrase").want(exitDone,
		"arn:aws:ssm:us-east-1:123456789012:parameter"+newKey+": private key, version 1",
		"arn:aws:ssm:us-east-1:123456789012:parameter"+newPass+": passphrase, version 1")
}
