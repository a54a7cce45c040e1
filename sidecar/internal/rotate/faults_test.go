package rotate

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
)

// An answer that AWS or Snowflake give in place of the right one.
type badAnswer struct {
	status int
	body   string
}

func ssmError(code, message string) badAnswer {
	return badAnswer{400, fmt.Sprintf(`{"__type":%q,"message":%q}`, code, message)}
}

var ssmErrors = map[string]badAnswer{
	"access denied": ssmError("AccessDeniedException", "User: arn:aws:sts::123456789012:assumed-role/r/s is not authorized to perform: ssm:PutParameter on resource: x"),
	"kms":           ssmError("AccessDeniedException", "The ciphertext refers to a customer master key that does not exist"),
	"disabled key":  ssmError("InvalidKeyId", "is disabled"),
	"not found":     ssmError("ParameterNotFound", ""),
	"throttled":     ssmError("ThrottlingException", "Rate exceeded"),
	"updates":       ssmError("TooManyUpdates", "There are concurrent updates"),
	"versions":      ssmError("ParameterMaxVersionLimitExceeded", "the oldest version, can't be deleted because it has a label"),
	"too large":     ssmError("ValidationException", "Standard tier parameters support a maximum parameter value of 4096 characters."),
	"credentials":   ssmError("ExpiredTokenException", "The security token included in the request is expired"),
	"500":           {500, `{"__type":"InternalServerError","message":"An error occurred on the server side."}`},
	"503":           {503, ""},
	"not JSON":      {200, "<html>"},
}

var sqlErrors = map[string]badAnswer{
	"no privilege": {422, `{"code":"003001","sqlState":"42501","message":"Insufficient privileges"}`},
	"no object":    {422, `{"code":"002003","sqlState":"02000","message":"does not exist or not authorized"}`},
	"other":        {422, `{"code":"000630","sqlState":"57014","message":"Statement reached its statement timeout"}`},
	"401":          {401, `{"code":"390144","message":"JWT token is invalid."}`},
	"policy":       {403, `{"code":"390422","message":"Incoming request with IP/Token 1.2.3.4 is not allowed to access Snowflake."}`},
	"disabled":     {403, `{"message":"This account is not allowed to access this endpoint."}`},
	"429":          {429, `{"code":"390701","message":"Request rate exceeds max."}`},
	"500":          {500, ""},
	"503":          {503, "<html>"},
	"not JSON":     {200, "<html>"},
}

// lasting are those that are tried as an outage, too.
var lasting = []string{"access denied", "no privilege", "policy", "503", "not JSON"}

// calls is how many there are in a rotation that nothing disturbs.
func calls(t *testing.T, change func(*process)) []call {
	p := newFixture(t).process()
	change(p)
	p.must("undisturbed")
	return p.calls
}

func undisturbed(*process) {}

// Each call fails in each way, once and from then on. The key in use stays accepted, the run says something,
// and when all is well again one run puts it right.
func TestRun_EveryCallFails(t *testing.T) {
	t.Parallel()
	testEveryCallFails(t, undisturbed, func(f *fixture, what string) { f.settled(what) })
}

func testEveryCallFails(t *testing.T, change func(*process), settled func(*fixture, string)) {
	for _, c := range calls(t, change) {
		errors := sqlErrors
		if c.ssm {
			errors = ssmErrors
		}
		for name, bad := range errors {
			for _, forEver := range []bool{false, true} {
				if forEver && !slices.Contains(lasting, name) || !testenv.Has(c.n+len(name)) {
					continue
				}
				what := fmt.Sprintf("call %d, %s: %s (for ever: %v)", c.n, c.what, name, forEver)
				t.Run(what, func(t *testing.T) {
					t.Parallel()
					f := newFixture(t)
					p := f.once()
					change(p)
					p.fail = func(now call) (int, string) {
						if now.n == c.n || forEver && now.n > c.n && now.ssm == c.ssm {
							return bad.status, bad.body
						}
						return 0, ""
					}
					result, err := p.run()
					if err != nil && (result.Error == "" || result.Outcome != Failed && result.Outcome != Refused) {
						t.Errorf("%s: result %+v", what, result)
					}
					again := f.process()
					change(again)
					again.must(what)
					settled(f, what)
				})
			}
		}
	}
}

// An answer that does not come says nothing about whether it has happened. A run that goes on asks.
func TestRun_EveryAnswerIsLost(t *testing.T) {
	t.Parallel()
	for _, c := range calls(t, undisturbed) {
		for name, how := range map[string]fate{"before": lost, "after": lostAfter} {
			if !testenv.Has(c.n + len(name)) {
				continue
			}
			what := fmt.Sprintf("lost %s it happened: call %d, %s", name, c.n, c.what)
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t)
				p := f.once()
				p.fate = killAt(c.n, how)
				_, _ = p.run()
				again := f.process()
				again.must(what)
				f.settled(what)
				if version, _ := f.inUse(); version > 3 {
					t.Errorf("%s: the parameter has version %d", what, version)
				}
			})
		}
	}
}

// The SDK sends again what was not answered; AWS does not know that it has done it.
func TestRun_SDKSendsAgainAfterLostAnswer(t *testing.T) {
	t.Parallel()
	for _, c := range calls(t, undisturbed) {
		if !c.ssm || !testenv.Has(c.n) {
			continue
		}
		what := fmt.Sprintf("call %d, %s", c.n, c.what)
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			p := f.process()
			p.fate = killAt(c.n, lostAfter)
			p.must(what, Rotated)
			f.settled(what)
		})
	}
}

func TestRun_ClocksTwoMinutesApart(t *testing.T) {
	t.Parallel()
	for _, skew := range []time.Duration{-2 * time.Minute, 2 * time.Minute} {
		f := newFixture(t)
		f.snowflake.SetClockOffset(skew)
		f.process().must(fmt.Sprintf("Snowflake's clock is off by %v", skew), Rotated)
		f.settled("skew")
	}
}

// refuses runs a process that has to refuse for good, or to fail, and change nothing.
func (p *process) refuses(want Outcome, says ...string) {
	p.t.Helper()
	before, slots := p.snapshot(), p.snowflake.Fingerprints("svc")
	result, err := p.run()
	if err == nil || result.Outcome != want {
		p.t.Errorf("%s, error %v\n%s", result.Outcome, err, p.story())
		return
	}
	for _, text := range says {
		if !strings.Contains(err.Error(), text) {
			p.t.Errorf("error %q lacks %q", err, text)
		}
	}
	if after := p.snapshot(); after != before || p.snowflake.Fingerprints("svc") != slots {
		p.t.Errorf("it was %v, %v and is %v, %v", before, slots, after, p.snowflake.Fingerprints("svc"))
	}
	p.ended("a refusal")
}

func (f *fixture) snapshot() string { n, key := f.inUse(); return fmt.Sprint(n, key) }

func TestRun_Refuses(t *testing.T) {
	t.Parallel()
	stranger := testkey.Key(90)
	for name, tc := range map[string]struct {
		change func(*fixture, *process)
		want   Outcome
		says   []string
	}{
		"a key that nobody knows is in the other slot": {func(f *fixture, _ *process) {
			f.snowflake.SetPublicKey("svc", 2, &stranger.RSA().PublicKey)
		}, Refused, []string{stranger.Fingerprint(), "RSA_PUBLIC_KEY_2", "set at 2", "ALTER USER SVC UNSET RSA_PUBLIC_KEY_2"}},
		"the key in use is in no slot": {func(f *fixture, _ *process) {
			f.snowflake.UnsetPublicKey("svc", 1)
			f.snowflake.AddKeyPair("svc", "etl", &testkey.Key(0).RSA().PublicKey)
		}, Refused, []string{"in neither slot", "--key-pair"}},
		"Snowflake refuses the key in use": {func(f *fixture, _ *process) {
			f.lax = true
			f.snowflake.UnsetPublicKey("svc", 1)
		}, Refused, []string{"Snowflake refuses the key " + testkey.Key(0).Fingerprint()}},
		"Snowflake refuses the key in use, and not the one before it": {func(f *fixture, _ *process) {
			f.lax = true
			f.ssm.Put(keyParameter, testkey.Encrypted(testkey.Key(91), passphrase))
		}, Refused, []string{"Snowflake does accept the key of version 1", "assign the new one, or store the value of /app/key:1"}},
		"no privilege": {func(f *fixture, _ *process) { f.snowflake.SetCanAlterUsers("svc", false) },
			Refused, []string{"003001", "GRANT MODIFY PROGRAMMATIC AUTHENTICATION METHODS ON USER SVC"}},
		"no such user":    {func(_ *fixture, p *process) { p.Snowflake.Login = "svd" }, Refused, []string{"user svd"}},
		"another account": {func(_ *fixture, p *process) { p.Snowflake.Account = "locla" }, Refused, []string{"SNOWFLAKE_ACCOUNT"}},
		"no account": {func(f *fixture, _ *process) {
			f.snowflake.Intercept(func(localsnowflake.Request) *localsnowflake.Fault { return localsnowflake.UnknownAccount(404) })
		}, Failed, []string{"404", "SNOWFLAKE_HOST"}},
		"a network policy": {func(f *fixture, _ *process) {
			f.snowflake.Intercept(func(localsnowflake.Request) *localsnowflake.Fault { return localsnowflake.BlockedByNetworkPolicy() })
		}, Failed, []string{"390422", "network policy"}},
		"no SQL API": {func(f *fixture, _ *process) {
			f.snowflake.Intercept(func(localsnowflake.Request) *localsnowflake.Fault { return localsnowflake.SQLAPIDisabled() })
		}, Failed, []string{"not allowed to access this endpoint"}},
		"the wrong passphrase": {func(f *fixture, _ *process) { f.ssm.Put(passParameter, "another") }, Refused, []string{"passphrase"}},
		"no parameter": {func(f *fixture, p *process) {
			p.fail = func(c call) (int, string) {
				if c.what == "GetParameters" {
					return 200, `{"Parameters":[],"InvalidParameters":["/app/key"]}`
				}
				return 0, ""
			}
		}, Refused, []string{"no parameter /app/key"}},
		"a label on the oldest of 100 versions": {func(f *fixture, _ *process) {
			for range 99 {
				f.ssm.Put(keyParameter, testkey.Encrypted(testkey.Key(0), passphrase))
			}
			f.ssm.Label(keyParameter, "keep", 1)
		}, Refused, []string{"unlabel-parameter-version"}},
		"too large for its tier": {func(f *fixture, p *process) {
			p.fail = func(c call) (int, string) {
				if c.what == "PutParameter "+keyParameter {
					return ssmErrors["too large"].status, ssmErrors["too large"].body
				}
				return 0, ""
			}
		}, Refused, []string{"4096 characters"}},
		"the JSON of a managed secret": {func(f *fixture, _ *process) {
			body, err := json.Marshal(map[string]string{
				"account": "local", "user": "svc", "privateKey": testkey.Encrypted(testkey.Key(0), passphrase), "passphrase": passphrase,
			})
			if err != nil {
				f.t.Fatal(err)
			}
			f.ssm.Put(keyParameter, string(body))
		}, Refused, []string{"JSON of a managed secret", "Secrets Manager, which rotates it"}},
		"a key without encryption": {func(f *fixture, _ *process) {
			der, err := x509.MarshalPKCS8PrivateKey(testkey.Key(0).RSA())
			if err != nil {
				f.t.Fatal(err)
			}
			text := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
			f.opened[text] = testkey.Key(0).Fingerprint()
			f.ssm.Put(keyParameter, text)
		}, Refused, []string{"without encryption", "sidecar keygen --put"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			p := f.process()
			tc.change(f, p)
			p.refuses(tc.want, tc.says...)
		})
	}
}
