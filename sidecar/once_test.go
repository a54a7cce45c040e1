package main

import (
	"encoding/base64"
	"encoding/pem"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
)

func TestOnce_PublishesEveryFormat(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args  []string
		mode  fs.FileMode
		files []string
	}{
		{nil, 0o440, []string{"rsa_key.der", "rsa_key.pem"}},
		{[]string{"--formats=der,pem,b64,pem.b64"}, 0o440, []string{"rsa_key.der", "rsa_key.pem", "rsa_key.b64", "rsa_key.pem.b64"}},
		{[]string{"--formats", "pem", "--file-mode", "0400"}, 0o400, []string{"rsa_key.pem"}},
	} {
		t.Run(strings.Join(tc.args, " "), func(t *testing.T) {
			t.Parallel()
			k := newTask(t)
			k.unprivileged() // with an owner that is not the one of everything here
			once := k.do(append([]string{"once"}, tc.args...)...)
			once.want(exitDone)
			want := "published " + fingerprint(t, oldFingerprint) + " in " + k.dir + " ("
			if out := once.stdout.String(); !strings.HasPrefix(out, want) || strings.Count(out, "\n") != 1 {
				t.Errorf("stdout is %q, want one line with %q", out, want)
			}
			if said := once.stderr.String(); said != "" {
				t.Errorf("stderr has %q", said)
			}

			left := k.snapshot()
			for _, name := range tc.files {
				f, ok := left[name]
				if !ok {
					t.Errorf("no %s", name)
					continue
				}
				delete(left, name)
				if f.Mode() != tc.mode {
					t.Errorf("%s has mode %v, want %v", name, f.Mode(), tc.mode)
				}
				k.ownedBySidecar(name)
				if key, err := keyfile.Read(filepath.Join(k.dir, name)); err != nil || key.Fingerprint() != fingerprint(t, oldFingerprint) {
					t.Errorf("%s: key %v, error %v, want openssl's %s", name, key, err, fingerprint(t, oldFingerprint))
				}
			}
			if len(left) > 0 {
				t.Errorf("and this was written as well: %v", left)
			}
		})
	}
}

func (k *task) ownedBySidecar(name string) {
	k.t.Helper()
	uid, gid := uint32(os.Getuid()), uint32(os.Getgid())
	if k.user != nil {
		uid, gid = k.user.Uid, k.user.Gid
	}
	info, err := os.Lstat(filepath.Join(k.dir, name))
	k.must(err)
	if owner := ownerOf(info); owner.Uid != uid || owner.Gid != gid {
		k.t.Errorf("%s belongs to %d:%d, want %d:%d", name, owner.Uid, owner.Gid, uid, gid)
	}
}

// Programs that are not ours read each file as the format of its name.
func TestOnce_FilesHaveTheFormatOfTheirName(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	k.do("once", "--formats=der,pem,b64").want(exitDone)
	files := k.snapshot()
	block, rest := pem.Decode([]byte(files["rsa_key.pem"].content))
	if block == nil || block.Type != "PRIVATE KEY" || len(rest) > 0 {
		t.Fatalf("rsa_key.pem is not one PEM block of PKCS#8, with %d bytes behind it", len(rest))
	}
	openssl, _ := pem.Decode([]byte(content(t, "internal/decrypt/testdata/rsa.pem")))
	for name, der := range map[string]string{
		"rsa_key.pem": string(block.Bytes),
		"rsa_key.der": files["rsa_key.der"].content,
		"rsa_key.b64": decoded(t, strings.TrimSuffix(files["rsa_key.b64"].content, "\n")),
	} {
		if der != string(openssl.Bytes) {
			t.Errorf("%s is not the DER that openssl wrote", name)
		}
	}
}

func decoded(t *testing.T, text string) string {
	t.Helper()
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Errorf("not standard base64 on one line: %v", err)
	}
	return string(der)
}

func TestStatus_DescribesTheKeyOnDisk(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	k.ssm.Put(keyParameter, content(t, nextKey)) // version 2
	began := time.Now().Truncate(time.Millisecond)
	k.do("once").want(exitDone, "published")

	s := k.status()
	if s.Schema != 1 || s.Source != arnOf(keyParameter) || s.Version != "2" || s.Fingerprint != fingerprint(t, nextFingerprint) || s.LastError != nil {
		t.Errorf("status %+v", s)
	}
	for name, at := range map[string]time.Time{"published_at": s.PublishedAt, "checked_at": s.CheckedAt} {
		if at.Before(began) || at.After(time.Now()) || at.Location() != time.UTC {
			t.Errorf("%s is %v, which is not now in UTC", name, at)
		}
	}
	info, err := os.Stat(filepath.Join(k.dir, keyfile.StatusName))
	k.must(err)
	if info.Mode() != 0o444 {
		t.Errorf("mode %v", info.Mode())
	}
	k.ownedBySidecar(keyfile.StatusName)

	time.Sleep(2 * time.Millisecond)
	k.do("once").want(exitDone, "unchanged", "("+s.Filesystem+")")
	if now := k.status(); !now.PublishedAt.Equal(s.PublishedAt) || !now.CheckedAt.After(s.CheckedAt) {
		t.Errorf("after a second refresh of the same key: published %v, then %v; checked %v, then %v",
			s.PublishedAt, now.PublishedAt, s.CheckedAt, now.CheckedAt)
	}
}

func TestOnce_UnchangedKeyIsNotWrittenAgain(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	k.do("once").want(exitDone, "published "+fingerprint(t, oldFingerprint))
	before := k.snapshot()
	k.do("once").want(exitDone, "unchanged "+fingerprint(t, oldFingerprint))
	k.untouched(before)
}

// A new mode or format is a change, also when the key is the same.
func TestOnce_ChangedSettingIsPublished(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	k.do("once").want(exitDone)
	k.do("once", "--file-mode=0400").want(exitDone, "published")
	if mode := k.snapshot()["rsa_key.pem"].Mode(); mode != 0o400 {
		t.Errorf("mode %v", mode)
	}
	k.do("once", "--file-mode=0400", "--formats=der,pem,b64").want(exitDone, "published")
	if _, ok := k.snapshot()["rsa_key.b64"]; !ok {
		t.Error("no rsa_key.b64")
	}
}

func TestParameters_EveryFormOfName(t *testing.T) {
	t.Parallel()
	arn := arnOf("/app/")
	for _, tc := range []struct{ name, key, pass, version, fingerprint string }{
		{"names", "/app/key", "/app/pass", "2", nextFingerprint},
		{"a version", "/app/key:1", "/app/pass", "1", oldFingerprint},
		{"a label", "/app/key:blue", "/app/pass", "1", oldFingerprint},
		{"versions of both", "/app/key:2", "/app/pass:1", "2", nextFingerprint},
		{"ARNs", arn + "key", arn + "pass", "2", nextFingerprint},
		{"ARNs with version and label", arn + "key:blue", arn + "pass:1", "1", oldFingerprint},
		{"a name without a slash", "key", "pass", "1", oldFingerprint},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			k := newTask(t)
			k.ssm.Put(keyParameter, content(t, nextKey))
			k.ssm.Label(keyParameter, "blue", 1)
			k.ssm.Put("key", content(t, oldKey))
			k.ssm.Put("pass", passphrase)
			if strings.HasPrefix(tc.key, "arn:") {
				delete(k.env, "AWS_REGION") // an ARN has one
			}
			k.do("once", "--key-parameter", tc.key, "--passphrase-parameter="+tc.pass).want(exitDone, fingerprint(t, tc.fingerprint))
			source := arnOf(strings.TrimPrefix(tc.key, arnOf("")))
			if s := k.status(); s.Source != source || s.Version != tc.version {
				t.Errorf("status: source %q version %q, want %q %q", s.Source, s.Version, source, tc.version)
			}
		})
	}
}

func TestParameters_MovedLabelIsFollowed(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	k.ssm.Label(keyParameter, "blue", 1)
	k.env["SNOWKEY_KEY_PARAMETER"] = keyParameter + ":blue"
	run := k.run()
	k.ssm.Put(keyParameter, content(t, nextKey))
	run.refresh()
	run.follows(fingerprint(t, oldFingerprint))
	k.ssm.Label(keyParameter, "blue", 2)
	run.refresh()
	run.follows(fingerprint(t, nextFingerprint))
}

func TestParameters_SecretOfSecretsManager(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	id := k.ssm.PutSecret("app/key", content(t, oldKey))
	k.env["SNOWKEY_KEY_PARAMETER"] = "/aws/reference/secretsmanager/app/key"
	run := k.run()
	if s := k.status(); s.Version != id || s.Fingerprint != fingerprint(t, oldFingerprint) {
		t.Errorf("status %+v, want version %s", s, id)
	}
	k.ssm.PutSecret("app/key", content(t, nextKey))
	run.refresh()
	run.follows(fingerprint(t, nextFingerprint))
}

// The passphrase may be in the environment beside a key in SSM, and a key may have none.
func TestPassphrase_InTheEnvironmentOrNone(t *testing.T) {
	t.Parallel()
	t.Run("in the environment", func(t *testing.T) {
		t.Parallel()
		k := newTask(t)
		unset("SNOWKEY_PASSPHRASE_PARAMETER")(k)
		k.env["PRIVATE_KEY_PASSPHRASE"] = passphrase
		k.do("once").want(exitDone, fingerprint(t, oldFingerprint))
	})
	t.Run("nowhere", func(t *testing.T) {
		t.Parallel()
		k := newTask(t)
		unset("SNOWKEY_PASSPHRASE_PARAMETER")(k)
		k.ssm.Put(keyParameter, content(t, "testdata/next.pem"))
		k.do("once").want(exitDone, fingerprint(t, nextFingerprint))
	})
}

func TestOnce_CleansUpAfterAPredecessor(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	k.must(os.WriteFile(filepath.Join(k.dir, ".snowkey-LEFTOVER"), []byte("half a key"), 0o600))
	k.do("once").want(exitDone)
	if _, ok := k.snapshot()[".snowkey-LEFTOVER"]; ok {
		t.Error("the leftover is still there")
	}
}

// The SDK retries a short spell of throttling.
func TestOnce_RetriesAThrottledCall(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	k.ssm.Throttle(1)
	k.do("once").want(exitDone, "published")
}

func TestOnce_CanBeInterrupted(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	hang(k)
	once := k.start("once")
	once.eventually("a call", func() bool { return len(k.calls(0)) > 0 })
	once.end(syscall.SIGTERM)
	once.want(exitFailed, "stopped: SIGTERM")
}
