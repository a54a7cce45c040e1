package refresh

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsssm "github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"

	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

// An account is the parameters of one account in one Region.
type account struct {
	id, region string

	mu    sync.Mutex
	keys  map[string]*keyfile.Key // by the parameter's name
	err   error
	calls int
}

func newAccount(id, region string) *account {
	return &account{id: id, region: region, keys: map[string]*keyfile.Key{}}
}

// change lets a test change or read it while it is in use.
func (a *account) change(do func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	do()
}

func (a *account) arn(name string) string {
	return "arn:aws:ssm:" + a.region + ":" + a.id + ":parameter" + name
}

func (a *account) GetParameters(_ context.Context, in *awsssm.GetParametersInput, _ ...func(*awsssm.Options)) (*awsssm.GetParametersOutput, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls++
	if a.err != nil {
		return nil, a.err
	}
	out := &awsssm.GetParametersOutput{}
	for _, asked := range in.Names {
		name := strings.TrimPrefix(asked, a.arn(""))
		key := a.keys[name]
		if key == nil {
			out.InvalidParameters = append(out.InvalidParameters, asked)
			continue
		}
		value := string(keyfile.PEM.Encode(key))
		if !*in.WithDecryption {
			value = "AQICAHh"
		}
		modified := time.Unix(1700000000, 0)
		out.Parameters = append(out.Parameters, types.Parameter{
			Name: aws.String(name), ARN: aws.String(a.arn(name)), Type: types.ParameterTypeSecureString,
			Value: &value, Version: 1, LastModifiedDate: &modified,
		})
	}
	return out, nil
}

// AWS's ways not to answer, and to refuse.
var (
	unreachable   = &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("no route")}
	rateExceeded  = &smithy.GenericAPIError{Code: "ThrottlingException", Message: "Rate exceeded"}
	accessRefused = &smithy.GenericAPIError{Code: "AccessDeniedException", Message: "not authorized to perform: ssm:GetParameters"}
	kmsRefused    = &smithy.GenericAPIError{Code: "InvalidKeyId", Message: "the KMS key is disabled"}
)

// A sidecar is one that reads a parameter of an account and publishes it on a volume.
type sidecar struct {
	*Refresher
	volume string
	log    *bytes.Buffer
}

func (a *account) sidecar(t *testing.T, volume, parameter string, change ...func(*Key)) sidecar {
	t.Helper()
	handle, err := ssm.NewKey(ssm.Parameters{Key: parameter})
	if err != nil {
		t.Fatal(err)
	}
	return newSidecar(volume, ssm.NewReaderOf(a, a.region, handle), Key{Parameter: parameter, Handle: handle}, change...)
}

// secretKey is a sidecar that has its key in SECRET_KEY.
func secretKey(volume string, text []byte) sidecar {
	return newSidecar(volume, ssm.Environment{Text: secret.New(text)}, Key{Parameter: "SECRET_KEY"})
}

func newSidecar(volume string, source Source, key Key, change ...func(*Key)) sidecar {
	log := new(bytes.Buffer)
	key.Dir = keyDirectory(volume)
	for _, c := range change {
		c(&key)
	}
	return sidecar{volume: volume, log: log, Refresher: New(Options{
		Source: source, Keys: []Key{key}, Interval: 5 * time.Minute, Log: slog.New(slog.NewTextHandler(log, nil)),
	})}
}

func (s sidecar) refresh(t *testing.T) Outcome { return s.RefreshOnce(t.Context())[0] }

// crash is the end of a sidecar that leaves its files.
func (s sidecar) crash() { s.keys[0].Dir.Unlock() }

func (s sidecar) status(t *testing.T) keyfile.Status {
	t.Helper()
	status, err := keyfile.ReadStatus(s.volume)
	if err != nil {
		t.Fatal(err)
	}
	return status
}

// wantDisk checks which key is on disk.
func wantDisk(t *testing.T, volume string, want *keyfile.Key) {
	t.Helper()
	if got := keyDirectory(volume).Published(); !got.Equal(want) {
		t.Errorf("on disk is %v, want %v", got, want)
	}
}

// wantNoKey checks that no output says that a key of this sidecar is on disk.
func (s sidecar) wantNoKey(t *testing.T, o Outcome) {
	t.Helper()
	if o.Status.Fingerprint != "" || !o.Status.CheckedAt.IsZero() || !o.Status.StoredAt.IsZero() || !o.Status.PublishedAt.IsZero() {
		t.Errorf("the outcome has %+v", o.Status)
	}
	if status := s.status(t); status.Fingerprint != "" || !status.CheckedAt.IsZero() || !status.StoredAt.IsZero() || status.Version != "" {
		t.Errorf("status.json has %+v", status)
	}
	if s.Ready() == nil {
		t.Error("it is ready")
	}
}

const (
	us, eu       = "us-east-1", "eu-west-1"
	ours, theirs = "111111111111", "222222222222"
)

// left is a volume on which a sidecar of /app/a has published key 0, and the account it is of.
func left(t *testing.T) (volume string, a *account) {
	t.Helper()
	volume, a = t.TempDir(), newAccount(ours, us)
	a.keys["/app/a"] = testkey.Key(0)
	s := a.sidecar(t, volume, "/app/a")
	if o := s.refresh(t); o.Err != nil || !o.Published || o.Status.Source != a.arn("/app/a") || s.Ready() != nil {
		t.Fatalf("%+v", o)
	}
	s.crash()
	return volume, a
}

// A key on disk is one's own only if AWS names the same source for it, however that was written.
func TestIdentity_KeyOnDisk(t *testing.T) {
	for name, tc := range map[string]struct {
		account   *account // nil: the one that left the key
		parameter string   // "": /app/a
		err       error    // of AWS
		own       bool
		class     keyfile.ErrorClass
	}{
		"the same name, AWS out of reach":          {err: unreachable, own: true, class: keyfile.ClassNetwork},
		"the same name, throttled":                 {err: rateExceeded, own: true, class: keyfile.ClassThrottled},
		"the same name, refused":                   {err: accessRefused, class: keyfile.ClassAccessDenied},
		"the same name, KMS refuses":               {err: kmsRefused, own: true, class: keyfile.ClassKMS},
		"the same by ARN, AWS out of reach":        {parameter: "arn:aws:ssm:us-east-1:111111111111:parameter/app/a", err: unreachable, own: true, class: keyfile.ClassNetwork},
		"the same by ARN, refused":                 {parameter: "arn:aws:ssm:us-east-1:111111111111:parameter/app/a", err: accessRefused, own: true, class: keyfile.ClassAccessDenied},
		"another name that does not exist":         {parameter: "/app/b", class: keyfile.ClassNotFound},
		"another name, AWS out of reach":           {parameter: "/app/b", err: unreachable, class: keyfile.ClassNetwork},
		"another label, AWS out of reach":          {parameter: "/app/a:prod", err: unreachable, class: keyfile.ClassNetwork},
		"the same name in another Region":          {account: newAccount(ours, eu), err: unreachable, class: keyfile.ClassNetwork},
		"the same name missing in another account": {account: newAccount(theirs, us), class: keyfile.ClassNotFound},
		"another account by ARN":                   {parameter: "arn:aws:ssm:us-east-1:222222222222:parameter/app/a", err: unreachable, class: keyfile.ClassNetwork},
	} {
		t.Run(name, func(t *testing.T) {
			volume, a := left(t)
			if tc.account != nil {
				a = tc.account
			}
			a.err = tc.err
			s := a.sidecar(t, volume, cmp.Or(tc.parameter, "/app/a"))
			o := s.refresh(t)
			if failure.Class(o.Err) != tc.class {
				t.Errorf("error %v", o.Err)
			}
			wantDisk(t, volume, testkey.Key(0)) // published by either
			if !tc.own {
				s.wantNoKey(t, o)
				return
			}
			if o.Status.Fingerprint != testkey.Key(0).Fingerprint() || o.Status.CheckedAt.IsZero() || s.Ready() != nil {
				t.Errorf("not taken over: %+v", o.Status)
			}
			if status := s.status(t); status.Source != newAccount(ours, us).arn("/app/a") {
				t.Errorf("source %q", status.Source)
			}
		})
	}
}

// Nothing of another source is inherited, and its first own key replaces what was there.
func TestIdentity_FirstKeyReplacesOtherSources(t *testing.T) {
	others := newAccount(theirs, us)
	volume, a := left(t)
	before := a.sidecar(t, volume, "/app/a").status(t)
	verified := 0
	s := others.sidecar(t, volume, "/app/a", func(k *Key) {
		k.Verify = func(context.Context, *keyfile.Key, decrypt.Login) error { verified++; return nil }
	})
	others.keys["/app/a"] = testkey.Key(0) // even the same key: Snowflake has not been asked about it
	o := s.refresh(t)
	if o.Err != nil || verified != 1 || o.Status.Source != others.arn("/app/a") || o.Status.PublishedAt.Equal(before.PublishedAt) {
		t.Errorf("verified %d times: %+v", verified, o)
	}
	others.change(func() { others.keys["/app/a"] = testkey.Key(1); others.err = nil })
	again := others.sidecar(t, volume, "/app/a")
	s.crash()
	if o := again.refresh(t); o.Err != nil || !o.Published {
		t.Errorf("%+v", o)
	}
	wantDisk(t, volume, testkey.Key(1))
}

// An answered refusal ends the assumption for good: a later outage does not bring it back, AWS's own word does.
func TestIdentity_RefusalEndsAssumption(t *testing.T) {
	volume, a := left(t)
	s := a.sidecar(t, volume, "/app/a")
	if s.Ready() != nil {
		t.Error("not ready before AWS has answered")
	}
	for _, a.err = range []error{unreachable, accessRefused, unreachable} {
		_ = s.refresh(t)
	}
	s.wantNoKey(t, s.refresh(t))
	a.err = nil
	if o := s.refresh(t); o.Err != nil || o.Status.Fingerprint != testkey.Key(0).Fingerprint() || s.Ready() != nil {
		t.Errorf("%+v", o)
	}
}

func TestIdentity_SecretKey(t *testing.T) {
	volume := t.TempDir()
	first := secretKey(volume, keyfile.PEM.Encode(testkey.Key(0)))
	if o := first.refresh(t); o.Err != nil || o.Status.Source != "SECRET_KEY "+testkey.Key(0).Fingerprint() {
		t.Fatalf("%+v", o)
	}
	published := first.status(t).PublishedAt
	first.crash()

	same := secretKey(volume, keyfile.PEM.Encode(testkey.Key(0)))
	if o := same.refresh(t); o.Err != nil || o.Published || !o.Status.PublishedAt.Equal(published) {
		t.Errorf("the same key: %+v", o)
	}
	same.crash()

	garbage := secretKey(volume, []byte("garbage"))
	o := garbage.refresh(t)
	if failure.Class(o.Err) != keyfile.ClassUnreadableKey {
		t.Errorf("error %v", o.Err)
	}
	garbage.wantNoKey(t, o)
	wantDisk(t, volume, testkey.Key(0))
}

// Two sidecars whose sources are spelled alike: the second is refused, retries, and does not disturb the first.
func TestIdentity_SecondSourceIsLockedOut(t *testing.T) {
	inUS, inEU := newAccount(ours, us), newAccount(ours, eu)
	for name, of := range map[string]func(t *testing.T, volume string) (first, second sidecar){
		"two SECRET_KEYs": func(_ *testing.T, volume string) (first, second sidecar) {
			return secretKey(volume, keyfile.PEM.Encode(testkey.Key(0))), secretKey(volume, keyfile.PEM.Encode(testkey.Key(1)))
		},
		"one name in two Regions": func(t *testing.T, volume string) (first, second sidecar) {
			inUS.keys["/app/a"], inEU.keys["/app/a"] = testkey.Key(0), testkey.Key(1)
			return inUS.sidecar(t, volume, "/app/a"), inEU.sidecar(t, volume, "/app/a")
		},
		"one name in two accounts": func(t *testing.T, volume string) (first, second sidecar) {
			other := newAccount(theirs, us)
			inUS.keys["/app/a"], other.keys["/app/a"] = testkey.Key(0), testkey.Key(1)
			return inUS.sidecar(t, volume, "/app/a"), other.sidecar(t, volume, "/app/a")
		},
	} {
		t.Run(name, func(t *testing.T) {
			volume := t.TempDir()
			first, second := of(t, volume)
			_ = first.refresh(t)
			before := first.status(t)
			for range 3 {
				if o := second.refresh(t); !locked(o.Err) || o.Published {
					t.Errorf("the second: %+v", o)
				}
				if o := first.refresh(t); o.Err != nil || o.Published {
					t.Errorf("the first: %+v", o)
				}
			}
			wantDisk(t, volume, testkey.Key(0))
			if after := first.status(t); after.Source != before.Source || after.Fingerprint != before.Fingerprint || after.LastError != nil {
				t.Errorf("status.json was %+v and is %+v", before, after)
			}
			if first.Ready() != nil || second.Ready() == nil {
				t.Error("the first is not ready, or the second is")
			}
			first.crash()
			if o := second.refresh(t); o.Err != nil || !o.Published || second.Ready() != nil {
				t.Errorf("the second, after the first has ended: %+v", o)
			}
			wantDisk(t, volume, testkey.Key(1))
		})
	}
}

// A refused sidecar retries every 30 seconds at most, and makes no call to SSM for it.
func TestIdentity_LockedOutSidecarRetriesWithoutCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		volume, a := left(t)
		holder := a.sidecar(t, volume, "/app/a")
		_ = holder.refresh(t)
		other := newAccount(ours, eu)
		other.keys["/app/a"] = testkey.Key(1)
		s := other.sidecar(t, volume, "/app/a")
		stop := runs(t, s.Refresher)
		time.Sleep(time.Hour)
		synctest.Wait()
		attempts := strings.Count(s.log.String(), "refresh failed")
		other.change(func() {
			if attempts < 120 || other.calls > 2 {
				t.Errorf("%d attempts and %d calls in an hour", attempts, other.calls)
			}
		})
		holder.crash()
		time.Sleep(31 * time.Second)
		synctest.Wait()
		wantDisk(t, volume, testkey.Key(1))
		stop()
	})
}

// The first refresh waits after a throttled predecessor only if that had the same source without any doubt.
func TestIdentity_ThrottledPredecessor(t *testing.T) {
	for name, tc := range map[string]struct {
		account   string
		parameter string
		delayed   bool
	}{
		"the same by ARN":         {ours, "arn:aws:ssm:us-east-1:111111111111:parameter/app/a", true},
		"the same name":           {ours, "/app/a", false},
		"another account by ARN":  {theirs, "arn:aws:ssm:us-east-1:222222222222:parameter/app/a", false},
		"another name by ARN":     {ours, "arn:aws:ssm:us-east-1:111111111111:parameter/app/b", false},
		"the same name elsewhere": {theirs, "/app/a", false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				volume, a := left(t)
				a.err = rateExceeded
				predecessor := a.sidecar(t, volume, "/app/a")
				_ = predecessor.refresh(t)
				if e := predecessor.status(t).LastError; e == nil || e.Class != keyfile.ClassThrottled {
					t.Fatalf("last error %+v", e)
				}
				predecessor.crash()

				next := newAccount(tc.account, us)
				next.keys["/app/a"] = testkey.Key(1)
				s := next.sidecar(t, volume, tc.parameter)
				stop := runs(t, s.Refresher)
				next.change(func() {
					if got := next.calls == 0; got != tc.delayed {
						t.Errorf("%d calls at the start", next.calls)
					}
				})
				stop()
			})
		})
	}
}

// Of several keys whose source is not known yet none delays or fails the others.
func TestIdentity_UnknownSourceBlocksNoOtherKey(t *testing.T) {
	known, unknown := newAccount(ours, us), handleOf(t, "/app/b")
	known.keys["/app/a"] = testkey.Key(0)
	handle := handleOf(t, "/app/a")
	source := forgetful{ssm.NewReaderOf(known, us, handle, unknown), unknown}
	volumes := map[string]string{"a": t.TempDir(), "b": t.TempDir()}
	r := New(Options{Source: source, Interval: 5 * time.Minute, Log: slog.New(slog.DiscardHandler), Keys: []Key{
		{Name: "b", Parameter: "/app/b", Handle: unknown, Dir: keyDirectory(volumes["b"])},
		{Name: "a", Parameter: "/app/a", Handle: handle, Dir: keyDirectory(volumes["a"])},
	}})
	for _, o := range r.RefreshOnce(t.Context()) {
		if (o.Err == nil) != (o.Key == "a") {
			t.Errorf("key %s: %v", o.Key, o.Err)
		}
	}
	wantDisk(t, volumes["a"], testkey.Key(0))
}

// forgetful is a source that gives no answer for one key, and the others in another order.
type forgetful struct {
	Source
	forgets *ssm.Key
}

func (f forgetful) Fetch(ctx context.Context, wanted []ssm.Wanted) []ssm.Fetched {
	var answers []ssm.Fetched
	for _, a := range f.Source.Fetch(ctx, wanted) {
		if a.Key != f.forgets {
			answers = append([]ssm.Fetched{a}, answers...)
		}
	}
	return answers
}

// last_error says since when refreshes fail, also across restarts.
func TestStatus_LastErrorSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		volume, a := left(t)
		began := time.Now().UTC()
		s := a.sidecar(t, volume, "/app/a")
		for _, a.err = range []error{unreachable, rateExceeded} {
			_ = s.refresh(t)
			time.Sleep(time.Minute)
		}
		s.crash()
		s = a.sidecar(t, volume, "/app/a")
		if e := s.refresh(t).Status.LastError; !e.Since.Equal(began) || e.At.Sub(began) != 2*time.Minute {
			t.Errorf("%+v, want since %v", e, began)
		}
		a.err = nil
		_ = s.refresh(t)
		a.err = unreachable
		if e := s.refresh(t).Status.LastError; !e.Since.Equal(e.At) {
			t.Errorf("after a success: %+v", e)
		}
	})
}

// In an outage a sidecar that is started again shares the directory with another one of its source.
func TestIdentity_OutageBesideTheSameSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		volume, a := left(t)
		first := a.sidecar(t, volume, "/app/a")
		if o := first.refresh(t); o.Err != nil {
			t.Fatal(o.Err)
		}
		a.err = unreachable
		second := a.sidecar(t, volume, "/app/a")
		if o := second.refresh(t); locked(o.Err) || o.Status.Fingerprint == "" {
			t.Errorf("%v, status %+v", o.Err, o.Status)
		}
	})
}
