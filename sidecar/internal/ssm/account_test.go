package ssm_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/internal/local/localssm"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

const (
	ownKey   = "arn:aws:ssm:us-east-1:123456789012:parameter/app/key"
	otherKey = "arn:aws:ssm:us-east-1:999999999999:parameter/app/key"
)

// calls are all that a Store does with a name.
var calls = map[string]func(ctx context.Context, s *ssm.Store, name string) error{
	"put": func(ctx context.Context, s *ssm.Store, name string) error {
		_, err := s.Put(ctx, ssm.Write{Name: name, Value: value("new")})
		return err
	},
	"overwrite": func(ctx context.Context, s *ssm.Store, name string) error {
		_, err := s.Put(ctx, ssm.Write{Name: name, Value: value("new"), Overwrite: true})
		return err
	},
	"put of a lease": func(ctx context.Context, s *ssm.Store, name string) error {
		_, err := s.Put(ctx, ssm.Write{Name: name + ".rotation", Value: value("new"), Type: "String"})
		return err
	},
	"tag": func(ctx context.Context, s *ssm.Store, name string) error {
		return s.Tag(ctx, name, []ssm.Tag{{Key: "a", Value: "b"}})
	},
	"delete": func(ctx context.Context, s *ssm.Store, name string) error { return s.Delete(ctx, name) },
	"get":    func(ctx context.Context, s *ssm.Store, name string) error { _, err := s.Get(ctx, name); return err },
	"latest": func(ctx context.Context, s *ssm.Store, name string) error { _, err := s.Latest(ctx, name); return err },
	"history": func(ctx context.Context, s *ssm.Store, name string) error {
		_, err := s.History(ctx, name, true)
		return err
	},
}

// The account has a parameter of the same name, or none.
func TestStore_RefusesAnARNOfAnotherAccountOrRegion(t *testing.T) {
	for what, call := range calls {
		for arn, says := range map[string]string{
			otherKey: "another account, and the credentials are of account 123456789012; use credentials of account 999999999999",
			strings.Replace(ownKey, "us-east-1", "eu-west-1", 1):  "another Region than us-east-1, which is called; set AWS_REGION=eu-west-1",
			strings.Replace(ownKey, "arn:aws:", "arn:aws-cn:", 1): "another partition",
		} {
			for _, exists := range []bool{true, false} {
				server := localssm.New()
				if exists {
					server.Put("/app/key", "old")
				}
				a := connect(t, testenv.Serve(t, server).String())
				wants(t, call(t.Context(), a.Store, arn), keyfile.ClassNotFound, says)
				for _, c := range server.Calls() {
					if c.Action != "GetParameters" && c.Action != "GetCallerIdentity" {
						t.Errorf("%s of %s: there is a call of %s", what, arn, c.Action)
					}
				}
			}
		}
	}
}

// Another account can be told by any parameter of the name, or by STS if there is none yet.
func TestStore_TakesAnARNOfItsOwnAccount(t *testing.T) {
	for what, call := range calls {
		for _, sts := range []bool{true, false} {
			server := localssm.New()
			a := connect(t, testenv.Serve(t, server).String())
			if !sts {
				t.Setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")
				a.Store = open(t)
			}
			if !sts || !strings.HasPrefix(what, "put") {
				server.Put("/app/key", "old")
				server.Put("/app/key.rotation", "old")
			}
			if err := call(t.Context(), a.Store, ownKey); err != nil && (sts || !errors.Is(err, ssm.ErrExists)) {
				t.Errorf("%s, STS %v: %v", what, sts, err)
			}
		}
	}
}

func TestStore_RefusesAnARNWhileTheAccountIsNotKnown(t *testing.T) {
	server := localssm.New()
	a := connect(t, testenv.Serve(t, server).String())
	t.Setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")
	a.Store = open(t)
	_, err := a.Put(t.Context(), ssm.Write{Name: otherKey, Value: value("x")})
	wants(t, err, keyfile.ClassOther, "is not known", "let this machine reach 127.0.0.1:1 ", "sts:GetCallerIdentity", "credentials of account 999999999999", "write /app/key instead")
	equal(t, "versions", len(server.Values("/app/key")), 0)
	a.put(t, ssm.Write{Name: "/app/key", Value: value("x")})
}

// The account in the settings is what a user has written, too.
func TestStore_DoesNotTakeTheAccountFromTheSettings(t *testing.T) {
	server := localssm.New()
	connect(t, testenv.Serve(t, server).String())
	t.Setenv("AWS_ACCOUNT_ID", "999999999999")
	_, err := open(t).Put(t.Context(), ssm.Write{Name: otherKey, Value: value("x")})
	wants(t, err, keyfile.ClassNotFound, "another account")
}

// A refusal of IAM names the account as well.
func TestStore_TakesTheAccountFromARefusal(t *testing.T) {
	server := localssm.New()
	connect(t, testenv.Serve(t, server).String())
	t.Setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")
	server.Intercept(func(c localssm.Call) *localssm.Fault {
		if c.Action == "GetParameters" {
			return &localssm.Fault{Code: "AccessDeniedException", Message: "User: arn:aws:sts::123456789012:assumed-role/r/s is not authorized to perform: " +
				"ssm:GetParameters on resource: arn:aws:ssm:us-east-1:123456789012:parameter/app/key because no identity-based policy allows it"}
		}
		return nil
	})
	_, err := open(t).Put(t.Context(), ssm.Write{Name: ownKey, Value: value("x")})
	must(t, err)
	_, err = open(t).Put(t.Context(), ssm.Write{Name: otherKey, Value: value("x")})
	wants(t, err, keyfile.ClassNotFound, "another account")
}

func TestStore_FindsOutItsAccountOnce(t *testing.T) {
	server := localssm.New()
	a := connect(t, testenv.Serve(t, server).String())
	for range 3 {
		a.put(t, ssm.Write{Name: ownKey, Value: value("x"), Overwrite: true})
	}
	var asked []string
	for _, c := range server.Calls() {
		if c.Action != "PutParameter" {
			asked = append(asked, c.Action)
		}
	}
	if want := []string{"GetParameters", "GetCallerIdentity"}; !slices.Equal(asked, want) {
		t.Errorf("asked %v, want %v", asked, want)
	}
}

func TestOpenStore_RefusesNamesOfTwoRegions(t *testing.T) {
	connect(t, "http://127.0.0.1:1")
	elsewhere := strings.Replace(ownKey, "us-east-1", "eu-west-1", 1)
	_, err := ssm.OpenStore(t.Context(), ssm.Options{}, elsewhere, "/app/pass")
	wants(t, err, keyfile.ClassNotFound, "AWS_REGION=eu-west-1")
	t.Setenv("AWS_REGION", "")
	t.Setenv("HOME", t.TempDir())
	_, err = ssm.OpenStore(t.Context(), ssm.Options{}, elsewhere, ownKey)
	wants(t, err, keyfile.ClassNotFound, "another Region than eu-west-1")
	_, err = ssm.OpenStore(t.Context(), ssm.Options{}, elsewhere, "/app/pass")
	must(t, err)
}

func TestStore_ARNIsWhatAWSSays(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, a *account) {
		name := a.name("/key")
		equal(t, "before it exists", a.ARN(t.Context(), name), name+" in us-east-1")
		a.put(t, ssm.Write{Name: name, Value: value("x")})
		equal(t, "ARN", a.ARN(t.Context(), name), "arn:aws:ssm:us-east-1:123456789012:parameter"+name)
	})
}

func open(t *testing.T) *ssm.Store {
	t.Helper()
	s, err := ssm.OpenStore(t.Context(), ssm.Options{})
	must(t, err)
	return s
}
