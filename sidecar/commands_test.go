package main

import (
	"crypto/rand"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/awsemulator"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/sidecar/internal/rotate"
)

// A cloud is a task at one of the AWS endpoints, with names there that no other test has.
type cloud struct {
	*task
	account      *localsnowflake.Server // Snowflake: none of the endpoints has one
	client       *ssm.Client
	id           string
	createKMSKey func(alias string)
	putSecret    func(id, value string) (versionID string)
}

// onEachAWS runs a test at the local endpoint and, by make test-localstack, at LocalStack.
func onEachAWS(t *testing.T, test func(k *cloud)) {
	testenv.Heavy(t)
	t.Run("local", func(t *testing.T) {
		t.Parallel()
		k := newCloud(t, "")
		k.createKMSKey = func(alias string) { k.ssm.CreateKMSKey(alias) }
		k.putSecret = k.ssm.PutSecret
		test(k)
	})
	for name, url := range awsemulator.Endpoints() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newCloud(t, url)
			services := awsemulator.Services(url)
			k.createKMSKey = func(alias string) { services.CreateKMSKey(t, alias) }
			k.putSecret = func(id, value string) string { return services.PutSecret(t, id, value) }
			test(k)
		})
	}
}

// newCloud is a task as doctor wants it, whose user has no key yet.
func newCloud(t *testing.T, endpoint string) *cloud {
	t.Helper()
	k, account := verified(t)
	account.UnsetPublicKey("svc", 1)
	if endpoint != "" {
		k.env["AWS_ENDPOINT_URL_SSM"] = endpoint
	}
	endpoint = k.env["AWS_ENDPOINT_URL_SSM"]
	k.env["AWS_ENDPOINT_URL_STS"] = endpoint
	k.env["AWS_ACCESS_KEY_ID"] = awsemulator.AccessKey
	k.env["SNOWKEY_GRACE"] = "1s"
	k.dir = tmpfs(t)
	k.unprivileged()
	k.program = forOthers
	k.must(os.Chmod(k.dir, 0o750))
	client := ssm.New(ssm.Options{
		Region: "us-east-1", BaseEndpoint: &endpoint,
		Credentials: credentials.NewStaticCredentialsProvider(awsemulator.AccessKey, awsSecret, ""),
	})
	id := "c" + strings.ToLower(rand.Text())
	k.env["SNOWKEY_KEY_PARAMETER"], k.env["SNOWKEY_PASSPHRASE_PARAMETER"] = "/"+id+"/key", "/"+id+"/pass"
	return &cloud{task: k, account: account, client: client, id: id}
}

// value is what the parameter of a setting holds.
func (k *cloud) value(setting string) string {
	k.t.Helper()
	in := &ssm.GetParameterInput{Name: aws.String(k.env[setting]), WithDecryption: aws.Bool(true)}
	out, err := k.client.GetParameter(k.t.Context(), in)
	k.must(err)
	return aws.ToString(out.Parameter.Value)
}

// stored is the fingerprint of the key in Parameter Store, which no output of the process may have.
func (k *cloud) stored(p *process) (fingerprint string) {
	k.t.Helper()
	text, pass := k.value("SNOWKEY_KEY_PARAMETER"), k.value("SNOWKEY_PASSPHRASE_PARAMETER")
	made := search{map[string]string{}, map[int]bool{}}
	made.markMade(k.t, "the key", []byte(text))
	made.markMade(k.t, "the passphrase", []byte(pass))
	for name, said := range p.outputs() {
		if found := made.in(said); found != "" {
			k.t.Errorf("%s: there is %s in its %s", p, found, name)
		}
	}
	return opened(k.t, text, pass).Fingerprint()
}

func TestCommands_FromKeygenToRotate(t *testing.T) {
	t.Parallel()
	onEachAWS(t, func(k *cloud) {
		t := k.t
		key, alias := k.env["SNOWKEY_KEY_PARAMETER"], "alias/"+k.id
		k.createKMSKey(alias)
		p := k.do("keygen", "--put", "--generate-passphrase", "--kms-key", alias, "--tag", "team=data")
		p.want(exitDone, key+": private key, version 1")
		first := k.stored(p)
		k.do("once").want(exitRefused, "Snowflake refuses the key "+first)
		made := opened(t, k.value("SNOWKEY_KEY_PARAMETER"), k.value("SNOWKEY_PASSPHRASE_PARAMETER"))
		k.account.SetPublicKey("svc", 1, &made.RSA().PublicKey)

		k.do("once").want(exitDone, "published "+first)
		run := k.run()
		run.follows(first)
		run.refresh()
		k.do("doctor").want(exitDone)
		for _, place := range []string{"RSA_PUBLIC_KEY_2", "RSA_PUBLIC_KEY"} {
			p := k.do("rotate")
			p.want(exitDone)
			done := summary(t, p)
			if done.Outcome != rotate.Rotated || done.Place != place || done.Fingerprint != k.stored(p) {
				t.Errorf("summary %+v, want the key of Parameter Store in %s", done, place)
			}
			slots := k.account.Fingerprints("svc")
			if slots != [2]string{done.Fingerprint, ""} && slots != [2]string{"", done.Fingerprint} {
				t.Errorf("Snowflake has %v, want %s alone", slots, done.Fingerprint)
			}
			run.signal(syscall.SIGHUP)
			run.follows(done.Fingerprint)
		}
		k.do("doctor").want(exitDone)
		run.end(syscall.SIGTERM)
		out, err := k.client.GetParameterHistory(k.t.Context(), &ssm.GetParameterHistoryInput{Name: &key})
		k.must(err)
		if len(out.Parameters) != 3 {
			k.t.Errorf("%d versions, want 3", len(out.Parameters))
		}
		for _, v := range out.Parameters {
			if aws.ToString(v.KeyId) != alias {
				k.t.Errorf("version %d is encrypted with %s, want %s", v.Version, aws.ToString(v.KeyId), alias)
			}
		}
	})
}

func TestCommands_ManagedSecret(t *testing.T) {
	t.Parallel()
	onEachAWS(t, func(k *cloud) {
		t := k.t
		k.env["SNOWKEY_KEY_PARAMETER"] = "/aws/reference/secretsmanager/" + k.id
		delete(k.env, "SNOWKEY_PASSPHRASE_PARAMETER")
		k.assign(k.account, 1, "internal/decrypt/testdata/rsa.pem")
		k.assign(k.account, 2, "testdata/next.pem")
		k.putSecret(k.id, managed(t, oldKey, passphrase))
		k.do("once").want(exitDone, "published "+fingerprint(t, oldFingerprint))
		run := k.run()
		second := k.putSecret(k.id, managed(t, nextKeyOfNext, nextPassphrase))
		run.signal(syscall.SIGHUP)
		run.follows(fingerprint(t, nextFingerprint))
		// LocalStack answers without the ARN, which ends in - and six letters.
		if s := k.status(); s.Version != second || !strings.Contains(s.Source, ":secret:"+k.id) {
			t.Errorf("status %+v, want version %s of %s", s, second, k.id)
		}
		k.do("doctor").want(exitDone, "key parameter: /aws/reference/secretsmanager/"+k.id+", SecureString, version "+second)
		run.end(syscall.SIGTERM)
	})
}
