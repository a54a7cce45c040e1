package rotate

import (
	"context"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awsssm "github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/local/localssm"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

const (
	keyParameter  = "/app/key"
	passParameter = "/app/passphrase"
	passphrase    = "a passphrase for tests"
	another       = "another passphrase"
)

// A fixture is a Parameter Store and a Snowflake in which one key is in use.
type fixture struct {
	t         *testing.T
	ssm       *localssm.Server
	snowflake *localsnowflake.Server
	raw       *awsssm.Client // not counted, not faulty

	mu     sync.Mutex
	opened map[string]string // fingerprints by encrypted text
	made   int               // new keys, which are test keys from 1 on
	broken []string          // moments at which the key in use was not accepted
	lax    bool              // somebody else breaks things: the key in use is not checked

	underWay []func() // requests that were sent, and have not taken effect yet
}

func TestMain(m *testing.M) {
	for name, value := range map[string]string{
		"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		os.Setenv(name, value)
	}
	os.Unsetenv("AWS_CA_BUNDLE") // which every process would read, for nothing
	testenv.Parallel(8)          // they wait for the SDK's pauses, and for the leases of runs that have died
	os.Exit(m.Run())
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	testenv.Slow(t)
	f := &fixture{t: t, ssm: localssm.New(), snowflake: localsnowflake.New(), opened: map[string]string{}}
	server := httptest.NewServer(f.ssm)
	t.Cleanup(server.Close)
	f.raw = awsssm.New(awsssm.Options{
		Region: "us-east-1", BaseEndpoint: &server.URL, Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
	})
	f.snowflake.CreateUser("svc")
	f.snowflake.SetPublicKey("svc", 1, &testkey.Key(0).RSA().PublicKey)
	f.ssm.Put(passParameter, passphrase)
	f.ssm.Put(keyParameter, testkey.Encrypted(testkey.Key(0), passphrase))
	return f
}

func (f *fixture) newPair(_ int, passphrase secret.Value) (*keyfile.Key, []byte, error) {
	f.mu.Lock()
	f.made++
	key := testkey.Key(f.made)
	f.mu.Unlock()
	return key, []byte(testkey.Encrypted(key, string(passphrase.Bytes()))), nil
}

// inUse is the newest version of the parameter and the fingerprint of the key in it.
func (f *fixture) inUse() (int64, string) {
	out, err := f.raw.GetParameter(context.Background(), &awsssm.GetParameterInput{Name: aws.String(keyParameter), WithDecryption: aws.Bool(true)})
	if err != nil {
		f.t.Errorf("the parameter: %v", err)
		return 0, ""
	}
	text := *out.Parameter.Value
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.opened[text] == "" {
		stored, err := decrypt.Parse(secret.New([]byte(text)), secret.New([]byte(passphrase)))
		if err != nil {
			stored, err = decrypt.Parse(secret.New([]byte(text)), secret.New([]byte(another)))
		}
		if err != nil {
			f.t.Errorf("the key in use: %v", err)
			return out.Parameter.Version, ""
		}
		f.opened[text] = stored.Key.Fingerprint()
	}
	return out.Parameter.Version, f.opened[text]
}

func (f *fixture) accepted() []string {
	slots := f.snowflake.Fingerprints("svc")
	all := slots[:]
	for _, p := range f.snowflake.KeyPairs("svc") {
		if p.Status == localsnowflake.KeyPairActive {
			all = append(all, p.Fingerprint)
		}
	}
	return all
}

// check notes the moments at which Snowflake does not accept the key in use.
func (f *fixture) check(after string) {
	for {
		version, key := f.inUse()
		if slices.Contains(f.accepted(), key) || f.lax {
			return
		}
		if again, _ := f.inUse(); again != version {
			continue // others have gone on between the two reads
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.broken = append(f.broken, after)
		return
	}
}

// leased reports whether there is a lease, but for one that only tells which key Snowflake lets expire.
func (f *fixture) leased() bool {
	out, err := f.raw.GetParameter(context.Background(), &awsssm.GetParameterInput{Name: aws.String(keyParameter + LeaseSuffix)})
	return err == nil && !strings.Contains(*out.Parameter.Value, `"over":true`)
}

// settled checks what is true when all is over.
func (f *fixture) settled(what string) {
	f.t.Helper()
	_, key := f.inUse()
	slots := f.snowflake.Fingerprints("svc")
	if slots != [2]string{key, ""} && slots != [2]string{"", key} {
		f.t.Errorf("%s: the key in use is %s, the slots are %v", what, key, slots)
	}
	f.ended(what)
}

func (f *fixture) ended(what string) {
	f.t.Helper()
	if f.leased() {
		f.t.Errorf("%s: the lease is still there", what)
	}
	for _, moment := range f.broken {
		f.t.Errorf("%s: the key in use was not accepted after %s", what, moment)
	}
	f.broken = nil
}
