package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/local/localssm"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/doctor"
	"github.com/snowkey/snowkey/sidecar/internal/harden"
	"github.com/snowkey/snowkey/sidecar/internal/keygen"
	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
)

// examined is a task in which everything is right, its key on disk.
func examined(t *testing.T) (*task, *localsnowflake.Server) {
	testenv.Heavy(t)
	t.Helper()
	k, account := verified(t)
	k.env["AWS_ENDPOINT_URL_STS"] = k.env["AWS_ENDPOINT_URL_SSM"]
	k.dir = tmpfs(t)
	k.unprivileged()
	k.program = forOthers
	k.must(os.Chmod(k.dir, 0o750))
	k.do("once").want(exitDone)
	return k, account
}

// varies are parts of the output that differ from run to run.
var varies = []struct {
	is *regexp.Regexp
	as string
}{
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "HOST"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "TIME"},
	{regexp.MustCompile(`\b[1-9]?\d+s ago`), "SECONDS ago"},
	{regexp.MustCompile(`\d+ KiB`), "N KiB"},
	{regexp.MustCompile(`Request ID: [0-9a-f-]+`), "Request ID: ID"},
	{regexp.MustCompile(`key/[0-9a-f-]{36}`), "key/ID"},
	{regexp.MustCompile(`\[[0-9a-f-]{36}\]`), "[ID]"},
	{regexp.MustCompile(`\.invalid:\d+`), ".invalid:PORT"},
	{regexp.MustCompile(`_ROTATED_\d+`), "_ROTATED_AT"},
}

// checklist has the lines that doctor prints, without what varies.
func (p *process) checklist() []string {
	text := p.stdout.String()
	for _, v := range varies {
		text = v.is.ReplaceAllString(text, v.as)
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// fill puts the task's values, and what this build does with memory, into an expected text.
func (k *task) fill(text string) string {
	uid, gid := os.Getuid(), os.Getgid()
	if k.user != nil {
		uid, gid = int(k.user.Uid), int(k.user.Gid)
	}
	memory := "ok    memory: " + harden.Memory().String()
	if !harden.Memory().Holds {
		memory = "warn" + strings.TrimPrefix(memory, "ok  ")
	}
	return strings.NewReplacer(
		"MEMORY", memory, "DIR", k.dir, "UID", fmt.Sprint(uid), "GID", fmt.Sprint(gid), "OLD", fingerprint(k.t, oldFingerprint), "NEXT", fingerprint(k.t, nextFingerprint),
	).Replace(text)
}

const allIsWell = `ok    other processes: kept out from the start
MEMORY
ok    aws region: us-east-1, from AWS_REGION
ok    aws credentials: arn:aws:sts::123456789012:assumed-role/app-task/session (account 123456789012), from AWS_ACCESS_KEY_ID
ok    ssm endpoint: http://HOST, from AWS_ENDPOINT_URL_SSM, answers
ok    aws clock: this machine agrees with AWS
ok    key parameter: /app/key, SecureString, version 1 of TIME
ok    key decryption: allowed
ok    passphrase parameter: /app/pass, SecureString, version 1 of TIME
ok    passphrase decryption: allowed
ok    passphrase: opens the key
ok    key: RSA 2048, OLD (aes-256-cbc, PBKDF2 with hmacWithSHA256, 2048 iterations)
ok    directory: DIR, UID:GID 0750
ok    filesystem: tmpfs, in memory
ok    writing: uid UID can write there
ok    space: N KiB are free
ok    readers: uid UID, and every process with gid GID (UID:GID 0440)
ok    published key: OLD, the newest
skip  connections (--connections is not set)
ok    last refresh: SECONDS ago, of arn:aws:ssm:us-east-1:123456789012:parameter/app/key
ok    other sidecars: none runs here
ok    snowflake host: http://HOST, answers
ok    snowflake clock: this machine agrees with Snowflake
ok    snowflake login: user svc, with OLD
ok    public key: RSA_PUBLIC_KEY
ok    key age: set 0 days ago
ok    other slots: RSA_PUBLIC_KEY_2, free
ok    role: PUBLIC, the user's default`

func TestDoctor_FindsNothingWrong(t *testing.T) {
	t.Parallel()
	k, account := examined(t)
	var mu sync.Mutex
	var statements []string
	account.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
		mu.Lock()
		defer mu.Unlock()
		statements = append(statements, r.Statement)
		return nil
	})
	before, status, calls := k.snapshot(), k.status(), len(k.calls(0))
	p := k.do("doctor")
	p.want(exitDone)
	if got, want := strings.Join(p.checklist(), "\n"), k.fill(allIsWell); got != want {
		t.Errorf("it says\n%s\nwant\n%s", got, want)
	}
	if said := p.stderr.String(); said != "" {
		t.Errorf("stderr has %q", said)
	}

	k.untouched(before)
	if now := k.status(); !reflect.DeepEqual(now, status) {
		t.Errorf("the status was %+v and is %+v", status, now)
	}
	for _, c := range k.calls(calls) {
		if c.Action != "GetParameters" && c.Action != "GetCallerIdentity" {
			t.Errorf("it called %s", c.Action)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(statements)
	if want := []string{"", "DESC USER SVC", "SELECT CURRENT_ROLE()", "SELECT CURRENT_USER()"}; !slices.Equal(statements, want) {
		t.Errorf("it ran %q, want %q, of which the first is no statement", statements, want)
	}
}

// An ailment is one thing that is wrong, with every line of the checklist that differs from allIsWell.
type ailment struct {
	name  string
	spoil func(*task, *localsnowflake.Server)
	args  []string
	lines string
}

// ofTask spoils the task alone.
func ofTask(spoil func(*task)) func(*task, *localsnowflake.Server) {
	return func(k *task, _ *localsnowflake.Server) { spoil(k) }
}

const (
	noKeyFrom = `skip  passphrase (%[1]s)
skip  key (%[1]s)
ok    published key: OLD; whether it is the newest is not known
ok    snowflake login: user svc, with the published key, since the newest was not read`
	noParameters = `skip  key parameter (%[1]s)
skip  key decryption (%[1]s)
skip  passphrase parameter (%[1]s)
skip  passphrase decryption (%[1]s)
` + noKeyFrom
	noLogin = `
skip  public key (snowflake login failed)
skip  key age (snowflake login failed)
skip  other slots (snowflake login failed)
skip  role (snowflake login failed)`
	noDirectory = `
skip  filesystem (directory failed)
skip  writing (directory failed)
skip  space (directory failed)
skip  readers (directory failed)
skip  published key (directory failed)
skip  connections (directory failed)
skip  last refresh (directory failed)
skip  other sidecars (directory failed)`
	unusableKey = `
ok    published key: OLD; whether it is the newest is not known
ok    snowflake login: user svc, with the published key, since the newest was not read`
	keepTime = "; synchronise the host's clock, for instance with chrony: Snowflake refuses a token that is a minute off"
)

var ailments = []ailment{
	{name: "no region", spoil: ofTask(unset("AWS_REGION")), lines: `fail  aws region: none; set AWS_REGION, or name the parameter by its ARN
skip  aws credentials (aws region failed)
skip  ssm endpoint (aws region failed)
skip  aws clock (aws region failed)
` + fmt.Sprintf(noParameters, "aws region failed")},
	{name: "no such profile", spoil: ofTask(func(k *task) { k.env["AWS_PROFILE"] = "nobody" }), lines: `fail  aws region: AWS settings: there is no profile of the name in AWS_PROFILE; check AWS_PROFILE, AWS_CONFIG_FILE and the other AWS_ variables
skip  aws credentials (aws region failed)
skip  ssm endpoint (aws region failed)
skip  aws clock (aws region failed)
` + fmt.Sprintf(noParameters, "aws region failed")},
	{name: "no credentials", spoil: ofTask(unset("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")), lines: `fail  aws credentials: none: failed to refresh cached credentials, no EC2 IMDS role found, operation error ec2imds: GetMetadata, access disabled to EC2 IMDS via client option, or "AWS_EC2_METADATA_DISABLED" environment variable; give the task a task role (taskRoleArn in the task definition); on a laptop set AWS_PROFILE
` + fmt.Sprintf(noParameters, "aws credentials failed")},
	{name: "credentials that STS refuses", spoil: ofTask(func(k *task) {
		k.ssm.Intercept(func(c localssm.Call) *localssm.Fault {
			if c.Action != "GetCallerIdentity" {
				return nil
			}
			return &localssm.Fault{Status: 403, Code: "InvalidClientTokenId", Message: "The security token included in the request is invalid."}
		})
	}), lines: `fail  aws credentials: from AWS_ACCESS_KEY_ID, and STS refuses them: InvalidClientTokenId: The security token included in the request is invalid.; check the credentials, and the clock of this machine`},
	{name: "no way to STS", spoil: ofTask(func(k *task) { k.env["AWS_ENDPOINT_URL_STS"] = "http://" + freeAddress(k.t) }),
		lines: `warn  aws credentials: from AWS_ACCESS_KEY_ID, and STS was not reached to say to whom they belong; ignore this if the parameters can be read: run does not call STS`},
	{name: "a task without its role", spoil: ofTask(func(k *task) { k.env["ECS_CONTAINER_METADATA_URI_V4"] = "http://169.254.170.2/v4/x" }),
		lines: `warn  aws credentials: arn:aws:sts::123456789012:assumed-role/app-task/session (account 123456789012), from AWS_ACCESS_KEY_ID, in an ECS task that should use the task role; give the task a task role (taskRoleArn), and take other credentials out of the task definition`},
	{name: "no way to SSM", spoil: ofTask(closedPort), lines: `fail  ssm endpoint: http://HOST, from AWS_ENDPOINT_URL_SSM, does not answer: dial tcp HOST: connect: connection refused; correct AWS_ENDPOINT_URL_SSM, or start what it names
skip  aws clock (ssm endpoint failed)
` + fmt.Sprintf(noParameters, "ssm endpoint failed")},
	{name: "a password in the endpoint", spoil: ofTask(func(k *task) {
		k.env["AWS_ENDPOINT_URL_SSM"] = strings.Replace(k.env["AWS_ENDPOINT_URL_SSM"], "//", "//user:"+url.QueryEscape(awsSecret)+"@", 1)
	}), lines: `fail  ssm endpoint: AWS_ENDPOINT_URL_SSM has a user or a password in it, which AWS does not take; write https://HOST without them
skip  aws clock (ssm endpoint failed)
` + fmt.Sprintf(noParameters, "ssm endpoint failed")},
	{name: "a password in an endpoint that is malformed", spoil: ofTask(set("AWS_ENDPOINT_URL_SSM", "http://user:"+awsSecret+"@127.0.0.1:4566")),
		lines: `fail  ssm endpoint: AWS_ENDPOINT_URL_SSM is not the address of an endpoint; write https://HOST or http://HOST:PORT
skip  aws clock (ssm endpoint failed)
` + fmt.Sprintf(noParameters, "ssm endpoint failed")},
	{name: "a program that its user may read", spoil: ofTask(func(k *task) { k.program = readable }),
		lines: `warn  other processes: let in for the first moment: those of the same user can open its environment and memory then, and read on; install the program as the image has it, owned by root with mode 0111, and run it as another user`},
	{name: "an endpoint without its scheme, by the variable of all services", spoil: ofTask(func(k *task) {
		unset("AWS_ENDPOINT_URL_SSM")(k)
		k.env["AWS_ENDPOINT_URL"] = "vpce-1.ssm.us-east-1.vpce.amazonaws.com"
	}), lines: `fail  ssm endpoint: AWS_ENDPOINT_URL is not the address of an endpoint; write https://HOST or http://HOST:PORT
skip  aws clock (ssm endpoint failed)
` + fmt.Sprintf(noParameters, "ssm endpoint failed")},
	{name: "a region with a space", spoil: ofTask(set("AWS_REGION", "us east-1")), lines: noRegion("AWS_REGION", "us-east-1")},
	{name: "a region in capitals, by the older variable", spoil: ofTask(func(k *task) {
		unset("AWS_REGION")(k)
		k.env["AWS_DEFAULT_REGION"] = "US_EAST_1"
	}), lines: noRegion("AWS_DEFAULT_REGION", "us-east-1")},
	{name: "an availability zone for the region", spoil: ofTask(set("AWS_REGION", "us-east-1a")), lines: noRegion("AWS_REGION", "us-east-1")},
	{name: "another region than the parameter's", spoil: ofTask(set("SNOWKEY_KEY_PARAMETER", "arn:aws:ssm:eu-central-1:123456789012:parameter/app/key")),
		lines: `fail  key parameter: no parameter arn:aws:ssm:eu-central-1:123456789012:parameter/app/key in us-east-1; set AWS_REGION=eu-central-1: SSM reads parameters of its own Region only
skip  key decryption (key parameter failed)
` + fmt.Sprintf(noKeyFrom, "key parameter failed")},
	{name: "no permission", spoil: ofTask(func(k *task) { k.ssm.DenyParameter(keyParameter) }), lines: `fail  key parameter: AccessDeniedException: User: arn:aws:sts::123456789012:assumed-role/app-task/session is not authorized to perform: ssm:GetParameters on resource: arn:aws:ssm:us-east-1:123456789012:parameter/app/key because no identity-based policy allows the ssm:GetParameters action; allow ssm:GetParameters in the task role on arn:aws:ssm:us-east-1:123456789012:parameter/app/key
skip  key decryption (key parameter failed)
` + fmt.Sprintf(noKeyFrom, "key parameter failed")},
	{name: "no permission for the passphrase", spoil: ofTask(func(k *task) { k.ssm.DenyParameter(passParameter) }), lines: `fail  passphrase parameter: AccessDeniedException: User: arn:aws:sts::123456789012:assumed-role/app-task/session is not authorized to perform: ssm:GetParameters on resource: arn:aws:ssm:us-east-1:123456789012:parameter/app/pass because no identity-based policy allows the ssm:GetParameters action; allow ssm:GetParameters in the task role on arn:aws:ssm:us-east-1:123456789012:parameter/app/pass
skip  passphrase decryption (passphrase parameter failed)
` + fmt.Sprintf(noKeyFrom, "passphrase parameter failed")},
	{name: "no kms:Decrypt", spoil: ofTask(func(k *task) { k.ssm.DenyDecrypt(keyParameter) }), lines: `fail  key decryption: AccessDeniedException: The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access. (Service: AWSKMS; Status Code: 400; Error Code: AccessDeniedException; Request ID: ID; Proxy: null); allow kms:Decrypt in the task role on the KMS key that encrypts the parameters, with kms:EncryptionContext:PARAMETER_ARN = arn:aws:ssm:us-east-1:ACCOUNT:parameter/app/key
` + fmt.Sprintf(noKeyFrom, "key decryption failed")},
	{name: "a disabled KMS key", spoil: ofTask(func(k *task) { k.ssm.DisableKMSKey(passParameter) }), lines: `fail  passphrase decryption: InvalidKeyId: arn:aws:kms:us-east-1:123456789012:key/ID is disabled. (Service: AWSKMS; Status Code: 400; Error Code: DisabledException; Request ID: ID; Proxy: null); enable the KMS key, or store the parameter again as a SecureString under one that is enabled
` + fmt.Sprintf(noKeyFrom, "passphrase decryption failed")},
	{name: "no key parameter", spoil: ofTask(func(k *task) { k.ssm.Delete(keyParameter) }), lines: `fail  key parameter: no parameter /app/key in us-east-1; create it there as a SecureString, or correct --key-parameter or --passphrase-parameter
skip  key decryption (key parameter failed)
` + fmt.Sprintf(noKeyFrom, "key parameter failed")},
	{name: "a passphrase in plain text", spoil: ofTask(storeAsString), lines: `warn  passphrase parameter: /app/pass, String, version 1 of TIME, stored in plain text; store it again with --type SecureString under a customer managed key`},
	{name: "a wrong passphrase", spoil: ofTask(put(passParameter, wrongPassphrase)), lines: `ok    passphrase parameter: /app/pass, SecureString, version 2 of TIME
fail  passphrase: the passphrase does not open the key; try it with: openssl pkey -in KEY.p8 -noout, and store the key and passphrase that belong together
skip  key (passphrase failed)` + unusableKey},
	{name: "a passphrase in quotation marks", spoil: ofTask(put(passParameter, `"`+passphrase+"\"\n")), lines: `ok    passphrase parameter: /app/pass, SecureString, version 2 of TIME
warn  passphrase: the passphrase opens the key only without the line break after it, without the quotation marks around it; store it like that: other programs try it only as it is`},
	{name: "no passphrase", spoil: ofTask(unset("SNOWKEY_PASSPHRASE_PARAMETER")), lines: `skip  passphrase parameter (--passphrase-parameter is not set)
skip  passphrase decryption (--passphrase-parameter is not set)
fail  passphrase: the key is encrypted and no passphrase was given; set PRIVATE_KEY_PASSPHRASE, or beside --key-parameter name its parameter in --passphrase-parameter
skip  key (passphrase failed)` + unusableKey},
	{name: "an EC key", spoil: ofTask(putFile("ec.pem")), lines: `ok    key parameter: /app/key, SecureString, version 2 of TIME
skip  passphrase (the key cannot be used with any passphrase)
fail  key: the value holds a key of type EC, and Snowflake takes RSA only; make another: openssl genrsa 2048 | openssl pkcs8 -topk8 -v2 aes-256-cbc -out KEY.p8` + unusableKey},
	{name: "a passphrase pasted for the key", spoil: ofTask(put(keyParameter, notAKey)), lines: `ok    key parameter: /app/key, SecureString, version 2 of TIME
skip  passphrase (the key cannot be used with any passphrase)
fail  key: the value is neither PEM nor base64; store the text of the key file, from -----BEGIN to -----END, e.g. --value file://rsa_key.p8` + unusableKey},
	{name: "a key in the environment", spoil: ofTask(func(k *task) {
		k.withoutAWS()
		k.env["SECRET_KEY"], k.env["PRIVATE_KEY_PASSPHRASE"] = content(k.t, oldKey), passphrase
	}), lines: noAWS("SECRET_KEY")},
	{name: "a key in the environment, beside an application's SECRET_KEY", spoil: ofTask(func(k *task) {
		k.withoutAWS()
		k.env["SECRET_KEY"] = "an application's own"
		k.env["SNOWKEY_SECRET_KEY"], k.env["PRIVATE_KEY_PASSPHRASE"] = content(k.t, oldKey), passphrase
	}), lines: noAWS("SNOWKEY_SECRET_KEY")},

	{name: "no directory", spoil: ofTask(func(k *task) { k.must(os.RemoveAll(k.dir)) }), lines: `fail  directory: DIR: no such file or directory; mount the shared volume at DIR (mountPoints in the task definition), or name another directory in --dir` + noDirectory},
	{name: "a file for the directory", spoil: ofTask(func(k *task) {
		k.must(os.RemoveAll(k.dir))
		k.must(os.WriteFile(k.dir, nil, 0o644))
	}), lines: `fail  directory: DIR: not a directory; --dir takes the directory that holds the key files` + noDirectory},
	{name: "a laptop", spoil: ofTask(onLaptop), lines: `skip  directory (there is no /run/snowflake, and this is neither an ECS task nor a pod)
skip  filesystem (there is no /run/snowflake, and this is neither an ECS task nor a pod)
skip  writing (there is no /run/snowflake, and this is neither an ECS task nor a pod)
skip  space (there is no /run/snowflake, and this is neither an ECS task nor a pod)
skip  readers (there is no /run/snowflake, and this is neither an ECS task nor a pod)
skip  published key (there is no /run/snowflake, and this is neither an ECS task nor a pod)
skip  connections (there is no /run/snowflake, and this is neither an ECS task nor a pod)
skip  last refresh (there is no /run/snowflake, and this is neither an ECS task nor a pod)
skip  other sidecars (there is no /run/snowflake, and this is neither an ECS task nor a pod)`},
	{name: "a directory that is not writable", spoil: ofTask(func(k *task) { k.must(os.Chmod(k.dir, 0o550)) }), lines: `ok    directory: DIR, UID:GID 0550
fail  writing: uid UID cannot write there: permission denied; make the directory writable for uid UID: a tmpfs volume with size=1m,mode=0750,uid=UID,gid=GID,noexec,nosuid,nodev, an image that declares VOLUME DIR owned by that uid, or chown UID on the host's directory`},
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
fail  last refresh: SECONDS ago, failed: kms; see the line "refresh failed" in the sidecar's log`},
	{name: "a sidecar with this key", spoil: ofTask(func(k *task) { k.run() }), lines: `ok    other sidecars: one publishes this key here`},
	{name: "a sidecar with another key", spoil: ofTask(func(k *task) {
		k.ssm.Put(otherParameter, content(k.t, oldKey))
		k.run("--key-parameter=" + otherParameter)
	}), lines: `ok    last refresh: SECONDS ago, of arn:aws:ssm:us-east-1:123456789012:parameter/other/key
fail  other sidecars: one publishes arn:aws:ssm:us-east-1:123456789012:parameter/other/key here; give each sidecar a volume of its own, or a directory of its own with --dir`},

	{name: "no such Snowflake host", spoil: ofTask(func(k *task) { k.env["SNOWFLAKE_HOST"] = noSuchHost(k.t) }), lines: noSnowflake("")},
	{name: "no way to Snowflake", spoil: ofTask(func(k *task) { k.unreachable() }), lines: noSnowflake(`fail  snowflake host: http://HOST: Snowflake was not reached: dial tcp HOST: connect: connection refused; check SNOWFLAKE_HOST, SNOWFLAKE_PORT, SNOWFLAKE_PROTOCOL, and the way to HOST (NAT gateway or PrivateLink, network policy)`)},
	{name: "a proxy that is not there", spoil: ofTask(func(k *task) {
		k.env["SNOWFLAKE_HOST"], k.env["HTTP_PROXY"] = "snowflake.invalid", "http://user:word@"+freeAddress(k.t)
	}), lines: noSnowflake(`fail  snowflake host: http://snowflake.invalid:PORT: Snowflake was not reached: proxyconnect tcp: dial tcp HOST: connect: connection refused; check the proxy in HTTP_PROXY, through which snowflake.invalid:PORT is called, or name the host in NO_PROXY`)},
	{name: "an address for the account", spoil: ofTask(set("SNOWFLAKE_ACCOUNT", "https://local.snowflakecomputing.com/")),
		lines: `warn  snowflake host: http://HOST, answers; the account is written "https://local.snowflakecomputing.com/", which other clients may not read; write it as local`},
	{name: "JDBC's address for the account, with a password", spoil: ofTask(set("SNOWFLAKE_ACCOUNT", "jdbc:snowflake://local.snowflakecomputing.com/?private_key_pwd="+url.PathEscape(passphrase))),
		lines: `warn  snowflake host: http://HOST, answers; the account is written "jdbc:snowflake://local.snowflakecomputing.com/", which other clients may not read; write it as local`},
	{name: "an account with the end of a line", spoil: ofTask(set("SNOWFLAKE_ACCOUNT", "local\r")),
		lines: `warn  snowflake host: http://HOST, answers; the account is written "local\r", which other clients may not read; write it as local`},
	{name: "a host for the account that no identifier leads to", spoil: ofTask(set("SNOWFLAKE_ACCOUNT", "local.snowflakecomputing.cn")),
		lines: `warn  snowflake host: http://HOST, answers; the account is written "local.snowflakecomputing.cn", which other clients may not read; write it as local, and SNOWFLAKE_HOST=local.snowflakecomputing.cn`},
	{name: "a certificate that is not trusted here", spoil: ofTask(func(k *task) {
		server := httptest.NewUnstartedServer(nil)
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		k.t.Cleanup(server.Close)
		k.env["SNOWFLAKE_PROTOCOL"], k.env["SNOWFLAKE_PORT"] = "https", server.URL[strings.LastIndex(server.URL, ":")+1:]
	}), lines: noSnowflake(`fail  snowflake host: https://HOST: Snowflake was not reached: tls: failed to verify certificate: x509: certificate signed by unknown authority; if a proxy opens TLS, or the endpoint is your own, name the PEM file with its CA certificate in AWS_CA_BUNDLE or SSL_CERT_FILE, which SSM and Snowflake both use, or name the host in NO_PROXY; otherwise find out who answers there`)},
	{name: "no such account", spoil: func(_ *task, account *localsnowflake.Server) {
		account.Intercept(func(localsnowflake.Request) *localsnowflake.Fault { return localsnowflake.UnknownAccount(404) })
	}, lines: `warn  snowflake host: Snowflake at 127.0.0.1 answered 404 Not Found; check SNOWFLAKE_HOST, SNOWFLAKE_PORT, SNOWFLAKE_PROTOCOL, and the account's network policy
skip  snowflake clock (what answers may not be Snowflake)
fail  snowflake login: Snowflake at 127.0.0.1 answered 404 Not Found; check SNOWFLAKE_HOST, SNOWFLAKE_PORT, SNOWFLAKE_PROTOCOL, and the account's network policy` + noLogin},
	{name: "another account", spoil: ofTask(set("SNOWFLAKE_ACCOUNT", "other")), lines: `fail  snowflake login: Snowflake refuses the key OLD for user svc: 394307 JWT token is invalid. JWT_TOKEN_ACCOUNT_MISMATCH [ID]; check SNOWFLAKE_ACCOUNT: the token names another account than the one that answers` + noLogin},
	{name: "a refused key", spoil: func(_ *task, account *localsnowflake.Server) { account.UnsetPublicKey("svc", 1) }, lines: `fail  snowflake login: Snowflake refuses the key OLD for user svc: 394304 JWT token is invalid. JWT_TOKEN_INVALID_PUBLIC_KEY_FINGERPRINT_MISMATCH [ID]; compare it with DESC USER svc, and assign it: ALTER USER svc SET RSA_PUBLIC_KEY_2='...'` + noLogin},
	{name: "an unknown user", spoil: ofTask(set("SNOWFLAKE_USER", "nobody")), lines: `fail  snowflake login: Snowflake refuses the key OLD for user nobody: 394300 JWT token is invalid. JWT_TOKEN_INVALID_USER_IN_ISSUER [ID]; check SNOWFLAKE_USER: the account has no user with this LOGIN_NAME, which need not be the user's name (DESC USER shows both)` + noLogin},
	{name: "a network policy", spoil: func(_ *task, account *localsnowflake.Server) {
		account.Intercept(func(localsnowflake.Request) *localsnowflake.Fault { return localsnowflake.BlockedByNetworkPolicy() })
	}, lines: `fail  snowflake login: Snowflake lets nobody in from here: 390422 Incoming request with IP/Token 127.0.0.1 is not allowed to access Snowflake. Contact your local security administrator.; allow this machine's address in the network policy of the account or of user svc` + noLogin},
	{name: "a disabled user", spoil: func(_ *task, account *localsnowflake.Server) { account.SetDisabled("svc", true) },
		lines: `fail  snowflake login: Snowflake refuses user svc: 390101 User access disabled. Contact your local system administrator.; enable the user: ALTER USER svc SET DISABLED = FALSE` + noLogin},
	{name: "a role that is not granted", spoil: func(k *task, account *localsnowflake.Server) {
		account.SetRoles("svc", "loader")
		k.env["SNOWFLAKE_ROLE"] = "auditor"
	}, lines: `fail  role: Snowflake refuses user svc: 390189 Role 'AUDITOR' specified in the connect string does not exist or not authorized. Contact your local system administrator, or attempt to login with another role, e.g. PUBLIC.; correct SNOWFLAKE_ROLE, or GRANT ROLE AUDITOR TO USER svc`},
	{name: "a role that is granted", spoil: func(k *task, account *localsnowflake.Server) {
		account.SetRoles("svc", "loader", "auditor")
		k.env["SNOWFLAKE_ROLE"] = "auditor"
	}, lines: `ok    role: AUDITOR, from SNOWFLAKE_ROLE`},
	{name: "a role in the wrong case", spoil: func(k *task, account *localsnowflake.Server) {
		account.SetRoles("svc", "loader", `"Auditor"`)
		k.env["SNOWFLAKE_ROLE"] = "Auditor"
	}, lines: `fail  role: there is no role AUDITOR for the user, and there is "Auditor"; write SNOWFLAKE_ROLE="Auditor", with the double quotes if it has any: without them a role's name is in upper case`},
	{name: "a role in quotes that it does not need", spoil: func(k *task, account *localsnowflake.Server) {
		account.SetRoles("svc", "loader")
		k.env["SNOWFLAKE_ROLE"] = `"loader"`
	}, lines: `fail  role: there is no role "loader" for the user, and there is LOADER; write SNOWFLAKE_ROLE=LOADER, with the double quotes if it has any: without them a role's name is in upper case`},
	{name: "a login name unlike the name", spoil: func(k *task, account *localsnowflake.Server) {
		key, err := keyfile.Read("internal/decrypt/testdata/rsa.pem")
		k.must(err)
		account.UnsetPublicKey("svc", 1)
		account.CreateUserWithLogin(`"Svc ETL"`, "etl@corp.example")
		account.SetPublicKey(`"Svc ETL"`, 2, &key.RSA().PublicKey)
		k.env["SNOWFLAKE_USER"] = "etl@corp.example"
	}, lines: `ok    snowflake login: user etl@corp.example, whose name in statements is "Svc ETL", with OLD
ok    public key: RSA_PUBLIC_KEY_2
ok    other slots: RSA_PUBLIC_KEY, free`},
	{name: "the name for the login name", spoil: func(k *task, account *localsnowflake.Server) {
		account.CreateUserWithLogin("svc_etl", "etl@corp.example")
		k.env["SNOWFLAKE_USER"] = "svc_etl"
	}, lines: `fail  snowflake login: Snowflake refuses the key OLD for user svc_etl: 394300 JWT token is invalid. JWT_TOKEN_INVALID_USER_IN_ISSUER [ID]; check SNOWFLAKE_USER: the account has no user with this LOGIN_NAME, which need not be the user's name (DESC USER shows both)` + noLogin},
	{name: "a named key pair", spoil: func(k *task, account *localsnowflake.Server) {
		key, err := keyfile.Read("internal/decrypt/testdata/rsa.pem")
		k.must(err)
		account.UnsetPublicKey("svc", 1)
		account.AddKeyPair("svc", "etl", &key.RSA().PublicKey)
	}, lines: `ok    public key: the named key pair ETL
ok    other slots: RSA_PUBLIC_KEY, free; RSA_PUBLIC_KEY_2, free`},
	{name: "a key pair that was rotated, and its key still in use", spoil: func(k *task, account *localsnowflake.Server) {
		key, err := keyfile.Read("internal/decrypt/testdata/rsa.pem")
		k.must(err)
		account.UnsetPublicKey("svc", 1)
		account.AddKeyPair("svc", "etl", &key.RSA().PublicKey)
		other, err := keyfile.Read("testdata/next.pem")
		k.must(err)
		port, err := strconv.Atoi(k.env["SNOWFLAKE_PORT"])
		k.must(err)
		client := &snowflake.Client{Account: "local", Login: "svc", Protocol: "http", Host: k.env["SNOWFLAKE_HOST"], Port: port, UserAgent: "test"}
		k.must(client.Change(k.t.Context(), key, snowflake.RotateKeyPair("SVC", "ETL", keygen.PublicKey(other), 24)))
	}, lines: `warn  public key: the named key pair ETL_ROTATED_AT, which expires in 24h0m0s, since it was rotated to ETL; complete the rotation before: sidecar rotate --key-pair ETL
ok    other slots: RSA_PUBLIC_KEY, free; RSA_PUBLIC_KEY_2, free`},
	{name: "a user whose name needs quotes", spoil: func(k *task, account *localsnowflake.Server) {
		account.CreateUser("svc-etl")
		k.env["SNOWFLAKE_USER"] = "svc-etl"
	}, lines: `fail  snowflake login: Snowflake refuses the key OLD for user svc-etl: 394304 JWT token is invalid. JWT_TOKEN_INVALID_PUBLIC_KEY_FINGERPRINT_MISMATCH [ID]; compare it with DESC USER "svc-etl", and assign it: ALTER USER "svc-etl" SET RSA_PUBLIC_KEY_2='...'` + noLogin},
	{name: "an old key", spoil: func(k *task, account *localsnowflake.Server) {
		account.SetClockOffset(-100*24*time.Hour - time.Hour)
		k.assign(account, 1, "internal/decrypt/testdata/rsa.pem")
		account.SetClockOffset(0)
	}, lines: `warn  key age: set 100 days ago; rotate it: keys should be replaced after 90 days`},
	{name: "no Snowflake", spoil: ofTask(unset("SNOWFLAKE_ACCOUNT")), lines: `skip  snowflake host (SNOWFLAKE_ACCOUNT or SNOWFLAKE_USER is not set)
skip  snowflake clock (SNOWFLAKE_ACCOUNT or SNOWFLAKE_USER is not set)
skip  snowflake login (SNOWFLAKE_ACCOUNT or SNOWFLAKE_USER is not set)
skip  public key (SNOWFLAKE_ACCOUNT or SNOWFLAKE_USER is not set)
skip  key age (SNOWFLAKE_ACCOUNT or SNOWFLAKE_USER is not set)
skip  other slots (SNOWFLAKE_ACCOUNT or SNOWFLAKE_USER is not set)
skip  role (SNOWFLAKE_ACCOUNT or SNOWFLAKE_USER is not set)`},
}

// noAWS are the lines of a key in the environment.
func noAWS(variable string) string {
	const checks = `skip  aws region (the key is in SECRET_KEY)
skip  aws credentials (the key is in SECRET_KEY)
skip  ssm endpoint (the key is in SECRET_KEY)
skip  aws clock (the key is in SECRET_KEY)
skip  key parameter (the key is in SECRET_KEY)
skip  key decryption (the key is in SECRET_KEY)
skip  passphrase parameter (the key is in SECRET_KEY)
skip  passphrase decryption (the key is in SECRET_KEY)`
	return strings.ReplaceAll(checks, "SECRET_KEY", variable)
}

// noRegion are the lines of a Region that does not exist.
func noRegion(variable, right string) string {
	return `fail  aws region: ` + variable + ` is not a Region as AWS writes it; write ` + right + `
skip  aws credentials (aws region failed)
skip  ssm endpoint (aws region failed)
skip  aws clock (aws region failed)
` + fmt.Sprintf(noParameters, "aws region failed")
}

func noSnowflake(host string) string {
	if host == "" {
		host = `fail  snowflake host: http://snowflake.invalid:PORT: no such host; correct SNOWFLAKE_HOST, or leave it out: the account has a host of its own`
	}
	return host + `
skip  snowflake clock (snowflake host failed)
skip  snowflake login (snowflake host failed)
skip  public key (snowflake host failed)
skip  key age (snowflake host failed)
skip  other slots (snowflake host failed)
skip  role (snowflake host failed)`
}

// noSuchHost is a name of which a name server says that there is no such host. Without a network none does.
func noSuchHost(t *testing.T) string {
	t.Helper()
	const name = "snowflake.invalid"
	_, err := net.LookupHost(name)
	if dns, ok := errors.AsType[*net.DNSError](err); !ok || !dns.IsNotFound {
		t.Skipf("no name server answers: %v", err)
	}
	return name
}

func TestDoctor_SaysTheOneThingToDo(t *testing.T) {
	t.Parallel()
	for _, a := range ailments {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			k, account := examined(t)
			a.spoil(k, account)
			before := k.snapshot()
			p := k.do(append([]string{"doctor"}, a.args...)...)
			k.untouched(before)
			p.differs(a.lines)
		})
	}
}

// differs checks that the checklist is allIsWell but for these lines, and the exit code that goes with it.
func (p *process) differs(lines string) {
	p.t.Helper()
	want := strings.Split(p.fill(allIsWell), "\n")
	failures := 0
	for line := range strings.Lines(p.fill(lines)) {
		line = strings.TrimSuffix(line, "\n")
		i := slices.IndexFunc(want, func(w string) bool { return checkOf(w) == checkOf(line) })
		if i < 0 {
			p.t.Fatalf("there is no check for %q", line)
		}
		want[i] = line
		if strings.HasPrefix(line, "fail") {
			failures++
		}
	}
	got := p.checklist()
	for i := range max(len(got), len(want)) {
		if g, w := at(got, i), at(want, i); g != w {
			p.t.Errorf("it says\n%s\nwant\n%s", g, w)
		}
	}
	if failures == 0 {
		p.want(exitDone)
		return
	}
	p.want(exitFailed, fmt.Sprintf("sidecar: %d of %d checks failed", failures, len(want)))
}

// notErased is 1 for a build whose memory is a warning.
func notErased() int {
	if harden.Memory().Holds {
		return 0
	}
	return 1
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(nothing)"
}

var checkName = regexp.MustCompile(`^\w+ +([a-z ]+?)(:| \()`)

func checkOf(line string) string { return checkName.FindStringSubmatch(line)[1] }

func onLaptop(k *task) {
	if _, err := os.Stat(keyfile.DefaultDir); err == nil {
		k.t.Skip("there is a " + keyfile.DefaultDir + " here")
	}
	k.env["SNOWKEY_DIR"] = keyfile.DefaultDir
}

func storeAsString(k *task) {
	k.ssm.Delete(passParameter)
	client := ssm.New(ssm.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(k.env["AWS_ENDPOINT_URL_SSM"]),
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", awsSecret, ""),
	})
	_, err := client.PutParameter(k.t.Context(), &ssm.PutParameterInput{
		Name: aws.String(passParameter), Value: aws.String(passphrase), Type: types.ParameterTypeString,
	})
	k.must(err)
}

// A clock is wrong against AWS's, Snowflake's, or both, and Snowflake accepts the key all the same when it is
// asked by its own clock.
func TestDoctor_MeasuresTheClock(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		ahead time.Duration // of this machine
		state string
		says  string
	}{
		{"two minutes ahead", 2 * time.Minute, "fail", `this machine is (1m59|2m0|2m1)s ahead of`},
		{"two minutes behind", -2 * time.Minute, "fail", `this machine is (1m59|2m0|2m1)s behind`},
		{"ten seconds ahead", 10 * time.Second, "warn", `this machine is (9|10|11)s ahead of`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			k, account := examined(t)
			account.SetClockOffset(-tc.ahead)
			k.frontSSM(func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Date", time.Now().Add(-tc.ahead).UTC().Format(http.TimeFormat))
				return true
			})
			p := k.do("doctor")
			lines := strings.Join(p.checklist(), "\n")
			for _, whose := range []string{"AWS", "Snowflake"} {
				want := "(?m)^" + tc.state + "  " + strings.ToLower(whose) + " clock: " + tc.says + " " + whose + regexp.QuoteMeta(keepTime) + "$"
				if !regexp.MustCompile(want).MatchString(lines) {
					t.Errorf("no line like %s in\n%s", want, lines)
				}
			}
			if !strings.Contains(lines, k.fill("ok    snowflake login: user svc, with OLD")) {
				t.Errorf("no login:\n%s", lines)
			}
		})
	}
}

// frontSSM puts something in front of SSM and STS, which says whether they get the request.
func (k *task) frontSSM(front func(http.ResponseWriter, *http.Request) bool) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if front(w, r) {
			k.ssm.ServeHTTP(w, r)
		}
	}))
	k.t.Cleanup(server.Close)
	k.env["AWS_ENDPOINT_URL_SSM"], k.env["AWS_ENDPOINT_URL_STS"] = server.URL, server.URL
}

func TestDoctor_OnADisk(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		env   map[string]string
		lines string
	}{
		{"anywhere", nil, `warn  filesystem: FS, a disk: the key outlives the task there; mount a tmpfs volume there with size=1m,mode=0750,uid=UID,gid=GID,noexec,nosuid,nodev`},
		{"on Fargate", map[string]string{"AWS_EXECUTION_ENV": "AWS_ECS_FARGATE"}, `ok    filesystem: FS, Fargate's ephemeral storage: a disk, encrypted at rest and gone with the task; --serve with --formats none, or sidecar exec, keeps the key in memory`},
		{"where only memory is allowed", map[string]string{"SNOWKEY_REQUIRE_TMPFS": "true"}, `fail  filesystem: FS, and --require-tmpfs allows tmpfs and ramfs only; mount a tmpfs volume there with size=1m,mode=0750,uid=UID,gid=GID,noexec,nosuid,nodev`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			k, _ := examined(t)
			k.dir = t.TempDir()
			k.unprivileged()
			k.must(os.Chmod(k.dir, 0o750))
			k.do("once").want(exitDone)
			filesystem := k.status().Filesystem
			if filesystem == "tmpfs" || filesystem == "overlay" {
				t.Skip("the directory for temporary files is on " + filesystem)
			}
			for name, value := range tc.env {
				k.env[name] = value
			}
			k.do("doctor").differs(strings.ReplaceAll(tc.lines, "FS", filesystem))
		})
	}
}

// Services may not answer at all, or accept a connection and then be silent.
func TestDoctor_EndsWithinHalfAMinute(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // whose connections nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	for _, tc := range []struct {
		name  string
		spoil func(*task, *localsnowflake.Server)
		lines string
	}{
		{"silent", func(k *task, _ *localsnowflake.Server) {
			unset("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")(k)
			url := "http://" + silent.Addr().String()
			k.env["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = url
			k.env["AWS_ENDPOINT_URL_SSM"], k.env["AWS_ENDPOINT_URL_STS"] = url, url
			k.env["SNOWFLAKE_PORT"] = url[strings.LastIndex(url, ":")+1:]
		}, `fail  aws credentials: none: the credentials provider did not answer within 5s; give the task a task role (taskRoleArn in the task definition); on a laptop set AWS_PROFILE
fail  ssm endpoint: http://HOST, from AWS_ENDPOINT_URL_SSM, does not answer: no answer within 5s; correct AWS_ENDPOINT_URL_SSM, or start what it names
skip  aws clock (ssm endpoint failed)
` + fmt.Sprintf(noParameters, "aws credentials failed") + "\n" +
			noSnowflake(`fail  snowflake host: http://HOST: Snowflake did not answer within 5s; check SNOWFLAKE_HOST, SNOWFLAKE_PORT, SNOWFLAKE_PROTOCOL, and the way to HOST (NAT gateway or PrivateLink, network policy)`)},
		{"no more than hello", func(k *task, account *localsnowflake.Server) {
			hang(k)
			account.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
				if r.Statement == "" { // no login
					return nil
				}
				return &localsnowflake.Fault{Delay: time.Hour}
			})
		}, `warn  aws credentials: from AWS_ACCESS_KEY_ID, and STS was not reached to say to whom they belong; ignore this if the parameters can be read: run does not call STS
fail  key parameter: ` + silence + `
fail  passphrase parameter: ` + silence + `
skip  key decryption (key parameter failed)
skip  passphrase decryption (passphrase parameter failed)
` + fmt.Sprintf(noKeyFrom, "key parameter failed") + `
fail  snowflake login: Snowflake did not answer within 5s; check SNOWFLAKE_HOST, SNOWFLAKE_PORT, SNOWFLAKE_PROTOCOL, and the way to HOST (NAT gateway or PrivateLink, network policy)` + noLogin},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			k, account := examined(t)
			tc.spoil(k, account)
			began := time.Now()
			p := k.start("doctor")
			select {
			case <-p.exited:
			case <-time.After(40 * time.Second):
				t.Fatal("it is still running")
			}
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("it took %v", took)
			}
			p.differs(tc.lines)
		})
	}
}

const silence = "SSM did not answer within 5s; check the way to HOST, which AWS_ENDPOINT_URL_SSM names"

func TestDoctor_PrintsTheSameAsJSON(t *testing.T) {
	t.Parallel()
	k, account := examined(t)
	account.UnsetPublicKey("svc", 1)
	unset("SNOWKEY_PASSPHRASE_PARAMETER")(k)
	k.env["PRIVATE_KEY_PASSPHRASE"] = passphrase
	k.must(os.Chmod(k.dir, 0o700))
	text := k.do("doctor").checklist()

	p := k.do("doctor", "--json")
	p.want(exitFailed, "sidecar: 1 of ")
	var report doctor.Report
	decoder := json.NewDecoder(strings.NewReader(p.stdout.String()))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&report); err != nil {
		t.Fatal(err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		t.Errorf("after the document: %v", err)
	}
	if report.Failed != 1 || report.Warnings != 1+notErased() {
		t.Errorf("%d failed, %d warnings", report.Failed, report.Warnings)
	}
	again := &process{}
	k.must(report.Text(&again.stdout))
	if lines := again.checklist(); !slices.Equal(lines, text) {
		t.Errorf("as JSON:\n%s\nas text:\n%s", strings.Join(lines, "\n"), strings.Join(text, "\n"))
	}
}

func TestDoctor_WrongSettingIsAUsageError(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	unset("SNOWKEY_KEY_PARAMETER", "SNOWKEY_PASSPHRASE_PARAMETER")(k)
	k.do("doctor").want(exitUsage, "no key: name its parameter in --key-parameter")
	k = newTask(t)
	k.env["SNOWKEY_KEY_PARAMETERS"] = "/app/key"
	k.do("doctor").want(exitUsage, "the nearest is SNOWKEY_KEY_PARAMETER")
	k.do("docter").want(exitUsage, "did you mean sidecar doctor?")
}

// The search at the end of each process fails the test for the password.
func TestDoctor_PrintsNoPasswordOfAProxy(t *testing.T) {
	t.Parallel()
	k, _ := examined(t)
	k.env["AWS_ENDPOINT_URL_SSM"], k.env["SNOWFLAKE_HOST"] = "http://ssm.invalid", "snowflake.invalid"
	escaped := url.QueryEscape(awsSecret)
	for _, proxy := range []string{
		"http://user:" + escaped + "@127.0.0.1:1", "http://" + escaped + "@127.0.0.1:1", "user:" + escaped + "@127.0.0.1:1",
	} {
		k.env["HTTP_PROXY"] = proxy
		k.do("doctor").want(exitFailed, "fail  ssm endpoint: http://ssm.invalid, ", "fail  snowflake host: http://snowflake.invalid:")
	}
	for _, malformed := range []string{
		"http://user:" + awsSecret + "@127.0.0.1:1", "http://user:" + escaped + "@127.0.0.1:1:2", "http://user:" + awsSecret + "%zz@127.0.0.1:1",
	} {
		k.env["HTTP_PROXY"] = malformed
		k.do("doctor").want(exitUsage, "HTTP_PROXY is not the address of a proxy; write http://HOST:PORT")
	}
}

// A credential_process may print what is no JSON, and the SDK's error repeats it.
func TestErrors_DoNotRepeatWhatACredentialProcessPrints(t *testing.T) {
	t.Parallel()
	k, _ := examined(t)
	unset("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")(k)
	configFile := filepath.Join(tmpfs(t), "config")
	k.must(os.Chmod(filepath.Dir(configFile), 0o755))
	k.must(os.WriteFile(configFile, []byte("[default]\ncredential_process = echo "+awsSecret+"\n"), 0o644))
	k.env["AWS_CONFIG_FILE"] = configFile
	k.do("doctor").want(exitFailed, "fail  aws credentials: credential_process of the AWS profile gave none; run it by hand and see what it says")
	k.do("once").want(exitFailed, "credential_process of the AWS profile gave none; run it by hand")
}

// On an instance the path of a task's credentials is all that it takes to get them.
func TestErrors_DoNotRepeatWhereATasksCredentialsAre(t *testing.T) {
	t.Parallel()
	k, _ := examined(t)
	unset("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")(k)
	repeats := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "Cannot GET "+r.URL.Path+" with "+r.Header.Get("Authorization"), http.StatusNotFound)
	}))
	defer repeats.Close()
	k.env["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = awsSecret
	const path = "/v2/credentials/" + awsSecret
	for _, tc := range []struct {
		uri, says string
		once      int
	}{
		{"http://127.0.0.1:1" + path, "connection refused", exitFailed},
		{"http://127.0.0.1:1a" + path, "AWS_CONTAINER_CREDENTIALS_FULL_URI is not the address", exitUsage},
		{"http://127.0.0.1" + path + "\n", "AWS_CONTAINER_CREDENTIALS_FULL_URI is not the address", exitUsage},
		{repeats.URL + path, "the credentials endpoint answered with status 404", exitFailed},
	} {
		k.env["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = tc.uri
		k.do("doctor").want(exitFailed, tc.says)
		k.do("once").want(tc.once, tc.says)
	}
}

// No program starts with a variable that is overwritten, and the SDK gives it all that there are.
func TestCredentialProcess_DoesNotGetThePassphrase(t *testing.T) {
	t.Parallel()
	k, _ := examined(t)
	unset("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "SNOWKEY_PASSPHRASE_PARAMETER")(k)
	k.env["PRIVATE_KEY_PASSPHRASE"] = passphrase
	dir := tmpfs(t)
	k.must(os.Chmod(dir, 0o755))
	program, configFile := filepath.Join(dir, "credentials"), filepath.Join(dir, "config")
	k.must(os.WriteFile(program, []byte("#!/bin/sh\n[ -z \"$PRIVATE_KEY_PASSPHRASE\" ] && echo '{\"Version\": 1, \"AccessKeyId\": \"AKIA\", \"SecretAccessKey\": \"x\"}'\n"), 0o755))
	k.must(os.WriteFile(configFile, []byte("[default]\ncredential_process = "+program+"\n"), 0o644))
	k.env["AWS_CONFIG_FILE"] = configFile
	k.do("once").want(exitDone)
}

func TestDoctor_CanBeInterrupted(t *testing.T) {
	t.Parallel()
	k, _ := examined(t)
	hang(k)
	p := k.start("doctor")
	p.eventually("a call", func() bool {
		return slices.ContainsFunc(k.calls(0), func(c localssm.Call) bool { return c.Action == "GetCallerIdentity" })
	})
	p.end(syscall.SIGTERM)
	p.want(exitFailed, "sidecar: stopped: SIGTERM received")
	if out := p.stdout.String(); out != "" {
		t.Errorf("and yet it judges:\n%s", out)
	}
}

// One bad key is one failed line, and the other keys are checked all the same.
func TestDoctor_ChecksEachKey(t *testing.T) {
	t.Parallel()
	k := several(t, "etl", "report")
	k.env["AWS_ENDPOINT_URL_STS"] = k.env["AWS_ENDPOINT_URL_SSM"]
	k.do("once").want(exitDone)
	k.ssm.DenyDecrypt("/report/key")
	p := k.do("doctor")
	lines := strings.Join(p.checklist(), "\n")
	for _, want := range []string{
		"ok    etl, key decryption: allowed\n",
		k.fill("ok    etl, published key: OLD, the newest\n"),
		"ok    parameters of the keys: each key has its own\n",
		"fail  report, key decryption: AccessDeniedException: ",
		"skip  report, key (key decryption failed)\n",
		"skip  report, snowflake host (SNOWFLAKE_ACCOUNT or SNOWFLAKE_USER is not set)\n",
	} {
		if !strings.Contains(lines, want) {
			t.Errorf("no %q in\n%s", want, lines)
		}
	}
	p.want(exitFailed, "sidecar: 1 of 55 checks failed")
}

// The volume of a new task is empty: a sidecar creates the directories of its keys there.
func TestDoctor_BeforeTheKeysDirectoriesExist(t *testing.T) {
	t.Parallel()
	k := several(t, "etl")
	k.must(os.Chmod(k.dir, 0o750))
	k.env["AWS_ENDPOINT_URL_STS"] = k.env["AWS_ENDPOINT_URL_SSM"]
	p := k.do("doctor")
	p.want(exitDone)
	lines := strings.Join(p.checklist(), "\n")
	for _, want := range []string{
		k.fill("ok    etl, directory: the sidecar creates DIR/etl in DIR, UID:GID 0750\n"),
		k.fill("ok    etl, writing: uid UID can write there\n"),
		"warn  etl, published key: none yet; start the sidecar: sidecar run\n",
	} {
		if !strings.Contains(lines, want) {
			t.Errorf("no %q in\n%s", want, lines)
		}
	}
	k.must(os.RemoveAll(k.dir))
	k.do("doctor").want(exitFailed, k.fill("fail  etl, directory: DIR: no such file or directory; mount the shared volume at DIR (mountPoints"))
}

// A managed secret names account and user, so the settings need not.
func TestDoctor_ReadsAManagedSecret(t *testing.T) {
	t.Parallel()
	k, _ := examined(t)
	k.ofSecret()
	unset("SNOWFLAKE_ACCOUNT", "SNOWFLAKE_USER")(k)
	id := k.ssm.PutSecret(secretID, managed(t, oldKey, passphrase))
	k.do("once").want(exitDone)
	k.do("doctor").differs(`ok    key parameter: ` + secretReference + `, SecureString, version ` + id + ` of TIME
skip  passphrase parameter (--passphrase-parameter is not set)
skip  passphrase decryption (--passphrase-parameter is not set)
ok    last refresh: SECONDS ago, of ` + k.status().Source)
}

// troubleshooting.md shows the checks that the program makes.
func TestDoctor_DocumentationShowsEveryCheck(t *testing.T) {
	t.Parallel()
	_, rest, found := strings.Cut(content(t, "../docs/troubleshooting.md"), "$ sidecar doctor\n")
	shown, _, end := strings.Cut(rest, "```\n")
	if !found || !end {
		t.Fatal("troubleshooting.md has no sample")
	}
	lines, want := strings.Split(strings.TrimSpace(shown), "\n"), strings.Split(newTask(t).fill(allIsWell), "\n")
	for i := range want {
		if line := at(lines, i); checkName.FindString(line) == "" || checkOf(line) != checkOf(want[i]) {
			t.Errorf("line %d is %q, where the program has %q", i+1, line, checkOf(want[i]))
		}
	}
}
