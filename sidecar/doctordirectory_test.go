package main

import (
	"os"
	"path/filepath"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/shared/keyfile"
)

// directoryAilments are of the key directory, its files, and other sidecars in it.
var directoryAilments = []ailment{
	{name: "no directory", spoil: ofTask(func(k *task) { k.must(os.RemoveAll(k.dir)) }), lines: `fail  directory: DIR: no such file or directory; create the directory: mkdir DIR (in a container, mount the shared volume at DIR), or name another directory in --dir` + noDirectory},
	{name: "a file for the directory", spoil: ofTask(func(k *task) {
		k.must(os.RemoveAll(k.dir))
		k.must(os.WriteFile(k.dir, nil, 0o644))
	}), lines: `fail  directory: DIR: not a directory; --dir takes the directory that holds the key files` + noDirectory},
	{name: "a laptop", spoil: ofTask(func(k *task) {
		if _, err := os.Stat(keyfile.DefaultDir); err == nil {
			k.t.Skip("there is a " + keyfile.DefaultDir + " here")
		}
		k.env["SNOWKEY_DIR"] = keyfile.DefaultDir
	}), lines: `skip  directory (there is no /run/snowflake, and this is neither an ECS task nor a pod)
skip  filesystem (there is no /run/snowflake, and this is neither an ECS task nor a pod)
skip  writing (there is no /run/snowflake, and this is neither an ECS task nor a pod)
skip  space (there is no /run/snowflake, and this is neither an ECS task nor a pod)
skip  readers (there is no /run/snowflake, and this is neither an ECS task nor a pod)
skip  published key (there is no /run/snowflake, and this is neither an ECS task nor a pod)
skip  connections (there is no /run/snowflake, and this is neither an ECS task nor a pod)
skip  last refresh (there is no /run/snowflake, and this is neither an ECS task nor a pod)
skip  other sidecars (there is no /run/snowflake, and this is neither an ECS task nor a pod)`},
	{name: "a directory that is not writable", spoil: ofTask(func(k *task) { k.must(os.Chmod(k.dir, 0o550)) }), lines: `ok    directory: DIR, UID:GID 0550
fail  writing: uid UID cannot write there: permission denied; make the directory writable for uid UID: chown UID DIR (in a container, a tmpfs volume with size=1m,mode=0750,uid=UID,gid=GID,noexec,nosuid,nodev, or an image that declares VOLUME DIR owned by that uid)`},
	{name: "a link for the key", spoil: ofTask(func(k *task) {
		k.must(os.Remove(filepath.Join(k.dir, "rsa_key.pem")))
		k.must(os.Symlink("rsa_key.der", filepath.Join(k.dir, "rsa_key.pem")))
	}), lines: `fail  writing: DIR/rsa_key.pem is a symbolic link; remove it: the sidecar replaces regular files only`},
	{name: "a directory for the key", spoil: ofTask(func(k *task) {
		k.must(os.Remove(filepath.Join(k.dir, "rsa_key.pem")))
		k.must(os.Mkdir(filepath.Join(k.dir, "rsa_key.pem"), 0o755))
	}), lines: `fail  writing: DIR/rsa_key.pem is a directory; remove it: the sidecar replaces regular files only
skip  published key (writing failed)`},
	{name: "a directory that its group cannot enter", spoil: ofTask(func(k *task) { k.must(os.Chmod(k.dir, 0o700)) }), lines: `ok    directory: DIR, UID:GID 0700
warn  readers: uid UID alone: gid GID may read the key, but not enter the directory (UID:GID 0700); mount the volume with size=1m,mode=0750,uid=UID,gid=GID,noexec,nosuid,nodev`},
	{name: "a directory that everybody writes", spoil: ofTask(func(k *task) { k.must(os.Chmod(k.dir, 0o777)) }), lines: `ok    directory: DIR, UID:GID 0777
fail  readers: every user of every container can replace the key: the directory is UID:GID 0777; mount the volume with size=1m,mode=0750,uid=UID,gid=GID,noexec,nosuid,nodev`},
	{name: "a directory that its group writes", spoil: ofTask(func(k *task) { k.must(os.Chmod(k.dir, 0o770)) }), lines: `ok    directory: DIR, UID:GID 0770
warn  readers: every process with gid GID can replace the key: the directory is UID:GID 0770; mount the volume with size=1m,mode=0750,uid=UID,gid=GID,noexec,nosuid,nodev`},
	{name: "a tmpfs without options", spoil: ofTask(func(k *task) { k.must(os.Chmod(k.dir, 0o777|os.ModeSticky)) }), lines: `ok    directory: DIR, UID:GID 1777
warn  readers: every user of every container can put files beside the key: the directory is UID:GID 1777; mount the volume with size=1m,mode=0750,uid=UID,gid=GID,noexec,nosuid,nodev`},
	{name: "a wrong mode", spoil: ofTask(func(k *task) { k.must(os.Chmod(filepath.Join(k.dir, "rsa_key.pem"), 0o644)) }), lines: `fail  readers: rsa_key.pem is UID:GID 0644, and by --file-mode 0440 it has to be 0440; send SIGHUP to refresh: that sets the mode again`},
	{name: "a damaged file", spoil: ofTask(func(k *task) {
		k.must(os.WriteFile(filepath.Join(k.dir, "damaged"), []byte("half a key"), 0o440))
		k.must(os.Rename(filepath.Join(k.dir, "damaged"), filepath.Join(k.dir, "rsa_key.pem")))
		if k.user != nil {
			k.must(os.Chown(filepath.Join(k.dir, "rsa_key.pem"), 65532, 65532))
		}
	}), lines: `fail  published key: DIR/rsa_key.pem: not a private key in a supported form; send SIGHUP to refresh: that writes the file again`},
	{name: "files of two keys", spoil: func(k *task, account *localsnowflake.Server) {
		k.assign(account, 2, "testdata/next.pem")
		k.ssm.Put(keyParameter, content(k.t, nextKey))
		old := content(k.t, filepath.Join(k.dir, "rsa_key.pem"))
		k.do("once").want(exitDone)
		overwrite("rsa_key.pem", old)(k)
		k.must(os.Chmod(filepath.Join(k.dir, "rsa_key.pem"), 0o440))
	}, lines: `ok    key parameter: /app/key, SecureString, version 2 of TIME
ok    key: RSA 2048, NEXT (aes-256-cbc, PBKDF2 with hmacWithSHA256, 2048 iterations)
fail  published key: rsa_key.pem holds another key than rsa_key.der; send SIGHUP to refresh: that writes the file again
ok    snowflake login: user svc, with NEXT
ok    public key: RSA_PUBLIC_KEY_2
ok    other slots: RSA_PUBLIC_KEY, OLD, set 0 days ago`},
	{name: "a key that is not published yet", spoil: ofTask(func(k *task) {
		for _, name := range []string{"rsa_key.der", "rsa_key.pem", keyfile.StatusName} {
			k.must(os.Remove(filepath.Join(k.dir, name)))
		}
	}), lines: `warn  published key: none yet; start the sidecar: sidecar run
skip  last refresh (there is no status.json)`},
	{name: "a key that is newer than the published one", spoil: func(k *task, account *localsnowflake.Server) {
		k.ssm.Put(keyParameter, content(k.t, nextKey))
		k.assign(account, 2, "testdata/next.pem")
	}, lines: `ok    key parameter: /app/key, SecureString, version 2 of TIME
ok    key: RSA 2048, NEXT (aes-256-cbc, PBKDF2 with hmacWithSHA256, 2048 iterations)
warn  published key: OLD, and the newest is NEXT; send SIGHUP to refresh now, or wait for --interval
ok    snowflake login: user svc, with NEXT
ok    public key: RSA_PUBLIC_KEY_2
ok    other slots: RSA_PUBLIC_KEY, OLD, set 0 days ago`},
	{name: "a refresh that failed", spoil: ofTask(func(k *task) {
		k.ssm.DenyDecrypt(keyParameter)
		k.do("once").want(exitRefused)
		k.heal()
		k.ssm.Allow(keyParameter)
	}), lines: `ok    key parameter: /app/key, SecureString, version 2 of TIME
ok    passphrase parameter: /app/pass, SecureString, version 2 of TIME
fail  last refresh: SECONDS ago, failed: kms; see the line "refresh failed" in the sidecar's log, or what "sidecar once" printed`},
	{name: "a sidecar with this key", spoil: ofTask(func(k *task) { k.run() }), lines: `ok    other sidecars: one publishes this key here`},
	{name: "a sidecar with another key", spoil: ofTask(func(k *task) {
		k.ssm.Put(otherParameter, content(k.t, oldKey))
		k.run("--key-parameter=" + otherParameter)
	}), lines: `ok    last refresh: SECONDS ago, of arn:aws:ssm:us-east-1:123456789012:parameter/other/key
fail  other sidecars: one publishes arn:aws:ssm:us-east-1:123456789012:parameter/other/key here; give each sidecar a volume of its own, or a directory of its own with --dir`},
}
