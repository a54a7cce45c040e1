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

// A world is a Parameter Store and a Snowflake in which one key is in use.
type world struct {
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

func newWorld(t *testing.T) *world {
	t.Helper()
	testenv.Slow(t)
	w := &world{t: t, ssm: localssm.New(), snowflake: localsnowflake.New(), opened: map[string]string{}}
	server := httptest.NewServer(w.ssm)
	t.Cleanup(server.Close)
	w.raw = awsssm.New(awsssm.Options{
		Region: "us-east-1", BaseEndpoint: &server.URL, Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
	})
	w.snowflake.CreateUser("svc")
	w.snowflake.SetPublicKey("svc", 1, &testkey.Key(0).RSA().PublicKey)
	w.ssm.Put(passParameter, passphrase)
	w.ssm.Put(keyParameter, testkey.Encrypted(testkey.Key(0), passphrase))
	return w
}

func (w *world) newPair(_ int, passphrase secret.Value) (*keyfile.Key, []byte, error) {
	w.mu.Lock()
	w.made++
	key := testkey.Key(w.made)
	w.mu.Unlock()
	return key, []byte(testkey.Encrypted(key, string(passphrase.Bytes()))), nil
}

// inUse is the newest version of the parameter and the fingerprint of the key in it.
func (w *world) inUse() (int64, string) {
	out, err := w.raw.GetParameter(context.Background(), &awsssm.GetParameterInput{Name: aws.String(keyParameter), WithDecryption: aws.Bool(true)})
	if err != nil {
		w.t.Errorf("the parameter: %v", err)
		return 0, ""
	}
	text := *out.Parameter.Value
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.opened[text] == "" {
		stored, err := decrypt.Parse(secret.New([]byte(text)), secret.New([]byte(passphrase)))
		if err != nil {
			stored, err = decrypt.Parse(secret.New([]byte(text)), secret.New([]byte(another)))
		}
		if err != nil {
			w.t.Errorf("the key in use: %v", err)
			return out.Parameter.Version, ""
		}
		w.opened[text] = stored.Key.Fingerprint()
	}
	return out.Parameter.Version, w.opened[text]
}

func (w *world) accepted() []string {
	slots := w.snowflake.Fingerprints("svc")
	all := slots[:]
	for _, p := range w.snowflake.KeyPairs("svc") {
		if p.Status == localsnowflake.KeyPairActive {
			all = append(all, p.Fingerprint)
		}
	}
	return all
}

// check holds the world to what is true at every moment.
func (w *world) check(after string) {
	for {
		version, key := w.inUse()
		if slices.Contains(w.accepted(), key) || w.lax {
			return
		}
		if again, _ := w.inUse(); again != version {
			continue // others have gone on between the two reads
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.broken = append(w.broken, after)
		return
	}
}

// leased reports whether there is a lease, but for one that only tells which key Snowflake lets expire.
func (w *world) leased() bool {
	out, err := w.raw.GetParameter(context.Background(), &awsssm.GetParameterInput{Name: aws.String(keyParameter + LeaseSuffix)})
	return err == nil && !strings.Contains(*out.Parameter.Value, `"over":true`)
}

// settled holds the world to what is true when all is over.
func (w *world) settled(what string) {
	w.t.Helper()
	_, key := w.inUse()
	slots := w.snowflake.Fingerprints("svc")
	if slots != [2]string{key, ""} && slots != [2]string{"", key} {
		w.t.Errorf("%s: the key in use is %s, the slots are %v", what, key, slots)
	}
	w.ended(what)
}

func (w *world) ended(what string) {
	w.t.Helper()
	if w.leased() {
		w.t.Errorf("%s: the lease is still there", what)
	}
	for _, moment := range w.broken {
		w.t.Errorf("%s: the key in use was not accepted after %s", what, moment)
	}
	w.broken = nil
}
