package ssm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/internal/local/localssm"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

// several is a source of keys /0, /1 and so on, which share the passphrase /pass.
func (a *account) several(n int) *reading {
	a.t.Helper()
	a.put("/pass", "PASS")
	var keys []Parameters
	for i := range n {
		a.put(fmt.Sprintf("/%d", i), fmt.Sprintf("KEY %d", i))
		keys = append(keys, Parameters{Key: a.name(fmt.Sprintf("/%d", i)), Passphrase: a.name("/pass")})
	}
	return newReading(a.t, keys...)
}

// all fetches every key, and notes what it then knows in known.
func all(t *testing.T, s *reading, known []Revision) []Fetched {
	t.Helper()
	fetched := s.Fetch(t.Context(), s.wanted(known))
	for i, f := range fetched {
		if f.Material != nil {
			known[i] = f.Material.Revision
		}
	}
	return fetched
}

func TestReader_ManyKeysShareCalls(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, aws *account) {
		s := aws.several(20)
		known := make([]Revision, 20)
		for i, f := range all(t, s, known) {
			if f.Err != nil {
				t.Fatal(f.Err)
			}
			want(t, f.Material, fmt.Sprintf("KEY %d", i), "PASS", "1")
		}
		aws.put("/7", "ANOTHER")
		for i, f := range all(t, s, known) {
			if changed := f.Material != nil; f.Err != nil || changed != (i == 7) {
				t.Errorf("key %d: changed %v, error %v", i, changed, f.Err)
			}
		}
		aws.put("/pass", "PASS 2")
		for i, f := range all(t, s, known) {
			if f.Err != nil || f.Material == nil || string(f.Material.Passphrase.Bytes()) != "PASS 2" {
				t.Errorf("key %d did not get the new passphrase: %v", i, f.Err)
			}
		}
	})
}

func TestReader_MissingKeyLeavesTheOthers(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, aws *account) {
		s := aws.several(2)
		s.keys[1].name, _ = ParseName(aws.name("/none"))
		fetched := all(t, s, make([]Revision, 2))
		want(t, fetched[0].Material, "KEY 0", "PASS", "1")
		if failure.Class(fetched[1].Err) != keyfile.ClassNotFound || !strings.Contains(fetched[1].Err.Error(), aws.name("/none")) {
			t.Errorf("error %v", fetched[1].Err)
		}
	})
}

func TestReader_NumberOfCalls(t *testing.T) {
	aws, server := local(t)
	s := aws.several(20)
	known := make([]Revision, 20)
	calls := func() []localssm.Call {
		before := len(server.Calls())
		all(t, s, known)
		return server.Calls()[before:]
	}
	fetched := calls() // nine keys and their passphrase are ten names
	if len(fetched) != 3 {
		t.Errorf("%d calls for 20 keys and a passphrase", len(fetched))
	}
	for _, c := range fetched {
		if len(c.Names) > 10 || !slices.Contains(c.Names, aws.name("/pass")) {
			t.Errorf("keys without their passphrase, or too many names: %v", c.Names)
		}
	}
	if quiet := calls(); len(quiet) != 3 || slices.ContainsFunc(quiet, func(c localssm.Call) bool { return c.WithDecryption }) {
		t.Errorf("a poll that finds nothing new: %v", quiet)
	}
	aws.put("/3", "ANOTHER")
	if changed := calls(); len(changed) != 4 || !changed[3].WithDecryption || len(changed[3].Names) != 2 {
		t.Errorf("one key that changed: %v", changed)
	}

	// One refusal fails a whole call. Then its keys are asked for one by one, and from then on the refused
	// one by itself.
	server.DenyParameter(aws.name("/4"))
	if n := len(calls()); n != 3+9 {
		t.Errorf("%d calls when AWS begins to refuse", n)
	}
	if n := len(calls()); n != 3+1 {
		t.Errorf("%d calls while AWS refuses one", n)
	}
	server.ClearFaults()
	if n := len(calls()); n != 3+1 {
		t.Errorf("%d calls when it no longer does", n)
	}
	if n := len(calls()); n != 3 {
		t.Errorf("%d calls after that", n)
	}

	// KMS refuses what is decrypted alone.
	server.DenyDecrypt(aws.name("/4"))
	aws.put("/4", "ANOTHER")
	for range 2 {
		if n := len(calls()); n != 3+1 {
			t.Errorf("%d calls while KMS refuses the one that changed", n)
		}
	}
	aws.put("/5", "ANOTHER")
	if n := len(calls()); n != 3+2 {
		t.Errorf("%d calls when another changes", n)
	}
	server.ClearFaults()
	if n := len(calls()); n != 3+1 {
		t.Errorf("%d calls when KMS no longer does", n)
	}
	if n := len(calls()); n != 3 {
		t.Errorf("%d calls after that", n)
	}
}

// A call that is throttled is sent once, and everything else is retried as the SDK is set to.
func TestReader_DisableThrottleRetrySendsAThrottledCallOnce(t *testing.T) {
	aws, server := local(t)
	status := map[string]int{"ThrottlingException": 400, "ServiceUnavailable": 503}
	for _, mode := range []string{"standard", "adaptive"} {
		t.Setenv("AWS_RETRY_MODE", mode)
		s := aws.several(1)
		s.DisableThrottleRetry()
		for code, attempts := range map[string]int{"ThrottlingException": 1, "ServiceUnavailable": 3} {
			before := len(server.Calls())
			server.Intercept(func(localssm.Call) *localssm.Fault {
				return &localssm.Fault{Code: code, Status: status[code]}
			})
			if f := all(t, s, make([]Revision, 1)); f[0].Err == nil {
				t.Errorf("%s, %s: no error", mode, code)
			}
			if n := len(server.Calls()) - before; n != attempts {
				t.Errorf("%s, %s: %d calls, want %d", mode, code, n, attempts)
			}
			server.ClearFaults()
		}
	}
}

// A change that was seen is fetched with one call when that failed at first.
func TestReader_ChangeThatFailedIsFetchedInOneCall(t *testing.T) {
	aws, server := local(t)
	s := aws.several(2)
	s.DisableThrottleRetry()
	known := make([]Revision, 2)
	all(t, s, known)
	aws.put("/1", "ANOTHER")
	server.Intercept(func(c localssm.Call) *localssm.Fault {
		if c.WithDecryption {
			return &localssm.Fault{Code: "ThrottlingException"}
		}
		return nil
	})
	if f := all(t, s, known); f[0].Err != nil || f[0].Changed || f[1].Err == nil || !f[1].Changed {
		t.Errorf("%+v", f)
	}
	server.ClearFaults()
	before := len(server.Calls())
	f := s.Fetch(t.Context(), []Wanted{{Key: s.keys[1], Known: known[1]}})
	if f[0].Material == nil || len(server.Calls()) != before+1 {
		t.Errorf("%+v after %d calls", f, len(server.Calls())-before)
	}
}

// What AWS says of every call is not asked again for each key.
func TestReader_OutageCostsOneCall(t *testing.T) {
	aws, server := local(t)
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	s := aws.several(20)
	for _, code := range []string{"ThrottlingException", "ExpiredTokenException", "InternalServerError"} {
		answer(server, code, "no")
		before := len(server.Calls())
		for i, f := range all(t, s, make([]Revision, 20)) {
			if f.Err == nil || f.Material != nil {
				t.Errorf("%s: key %d: %v", code, i, f)
			}
		}
		if n := len(server.Calls()) - before; n != 1 {
			t.Errorf("%s: %d calls", code, n)
		}
	}
	server.Intercept(func(c localssm.Call) *localssm.Fault { // in the middle of asking one by one
		if len(c.Names) > 2 || strings.HasSuffix(c.Names[0], "/0") {
			return &localssm.Fault{Code: "AccessDeniedException", Message: "User: x is not authorized to perform: ssm:GetParameters"}
		}
		return &localssm.Fault{Code: "ThrottlingException"}
	})
	before := len(server.Calls())
	fetched := all(t, s, make([]Revision, 20))
	if n := len(server.Calls()) - before; n != 3+2 || failure.Class(fetched[0].Err) != keyfile.ClassAccessDenied || failure.Class(fetched[1].Err) != keyfile.ClassThrottled {
		t.Errorf("%d calls; %v, %v", n, fetched[0].Err, fetched[1].Err)
	}
}

func TestReader_RefusalNamesTheKeysOwnParameters(t *testing.T) {
	aws, server := local(t)
	s := aws.several(3)
	server.DenyDecrypt(aws.name("/1"))
	fetched := all(t, s, make([]Revision, 3))
	want(t, fetched[0].Material, "KEY 0", "PASS", "1")
	want(t, fetched[2].Material, "KEY 2", "PASS", "1")
	if err := fetched[1].Err; failure.Class(err) != keyfile.ClassKMS || !strings.Contains(err.Error(), "parameter"+aws.name("/1")) || strings.Contains(err.Error(), aws.name("/2")) {
		t.Errorf("error %v", err)
	}
}

// moto says no selector, and AWS none for the newest version.
func TestReader_VersionsOfOneParameterAreNotMixedUp(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, aws *account) {
		aws.put("/key", "OLD")
		aws.put("/key", "NEW")
		aws.label("/key", "prod", 1)
		s := aws.several(0)
		for _, written := range []string{"/key:prod", "/key", "/key:1", "/key:2", "/key:none", "/key"} {
			k, err := NewKey(Parameters{Key: aws.name(written)})
			if err != nil {
				t.Fatal(err)
			}
			s.keys = append(s.keys, k)
		}
		for range 20 { // answers come in any order
			fetched := all(t, s, make([]Revision, len(s.keys)))
			for i, text := range []string{"OLD", "NEW", "OLD", "NEW", "", "NEW"} {
				if text != "" {
					want(t, fetched[i].Material, text, "", map[string]string{"OLD": "1", "NEW": "2"}[text])
				} else if failure.Class(fetched[i].Err) != keyfile.ClassNotFound {
					t.Errorf("%s: %v", s.keys[i].name, fetched[i])
				}
			}
		}
	})
}

// AWS has codes for one parameter that are not in its documentation.
func TestReader_UnknownErrorIsOneKeysOwn(t *testing.T) {
	aws, server := local(t)
	s := aws.several(3)
	server.Intercept(func(c localssm.Call) *localssm.Fault {
		if slices.Contains(c.Names, aws.name("/1")) {
			return &localssm.Fault{Code: "UnheardOfException", Message: "no"}
		}
		return nil
	})
	fetched := all(t, s, make([]Revision, 3))
	want(t, fetched[0].Material, "KEY 0", "PASS", "1")
	want(t, fetched[2].Material, "KEY 2", "PASS", "1")
	if fetched[1].Err == nil {
		t.Error("no error")
	}
}

func TestReader_SecretsAndParametersTogether(t *testing.T) {
	aws, server := local(t)
	server.PutSecret("app/key", "SECRET")
	s := aws.several(2)
	secret, err := NewKey(Parameters{Key: secretsManagerPrefix + "app/key"})
	if err != nil {
		t.Fatal(err)
	}
	s.keys = append(s.keys, secret)
	known := make([]Revision, 3)
	if fetched := all(t, s, known); fetched[0].Err != nil || fetched[2].Err != nil || string(fetched[2].Material.Text.Bytes()) != "SECRET" {
		t.Fatalf("%v", fetched)
	}
	for i, f := range all(t, s, known) {
		if f.Err != nil || f.Material != nil {
			t.Errorf("key %d: %v without a change", i, f)
		}
	}
	server.DenySecret(secretsManagerPrefix + "app/key")
	aws.put("/1", "ANOTHER")
	fetched := all(t, s, known)
	want(t, fetched[1].Material, "ANOTHER", "PASS", "2")
	if failure.Class(fetched[2].Err) != keyfile.ClassAccessDenied {
		t.Errorf("error %v", fetched[2].Err)
	}
}

func TestReader_FetchOfSeveralKeysEndsWithItsContext(t *testing.T) {
	aws, server := local(t)
	s := aws.several(20)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	before := len(server.Calls())
	for _, f := range s.Fetch(ctx, []Wanted{{Key: s.keys[0]}, {Key: s.keys[19]}}) {
		if !errors.Is(f.Err, context.Canceled) {
			t.Errorf("error %v", f.Err)
		}
	}
	if n := len(server.Calls()) - before; n > 1 {
		t.Errorf("%d calls", n)
	}
}
