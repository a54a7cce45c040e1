package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
)

var snowflakeChecks = group{
	applies: func(f *facts) string {
		login, set := f.key.login, f.of.Snowflake
		switch {
		case f.snowflake.asked:
			return ""
		case set.Account == "" && login.InvalidAccount != "":
			return "the account beside privateKey is invalid: " + login.InvalidAccount
		case set.User == "" && login.InvalidUser != "":
			return "the user beside privateKey is invalid: " + login.InvalidUser
		}
		return notSet(cmp.Or(string(set.Account), login.Account), cmp.Or(string(set.User), login.User))
	},
	checks: []check{
		{"snowflake host", nil, judgeHost},
		{"snowflake clock", []string{"snowflake host"}, judgeSnowflakesClock},
		{"snowflake login", []string{"snowflake host"}, judgeLogin},
		{"public key", []string{"snowflake login"}, judgePublicKey},
		{"key age", []string{"snowflake login", "public key"}, judgeAge},
		{"other slots", []string{"snowflake login", "public key"}, judgeOtherSlot},
		{"role", []string{"snowflake login"}, judgeRole},
	},
}

// notSet names what is missing of the account and the user.
func notSet(account, user string) string {
	switch {
	case account != "":
		return "SNOWFLAKE_USER is not set"
	case user != "":
		return "SNOWFLAKE_ACCOUNT is not set"
	}
	return "SNOWFLAKE_ACCOUNT and SNOWFLAKE_USER are not set"
}

// oldAfter is the age from which a key counts as old. AWS Security Hub has the same for secrets (SecretsManager.4) and
// access keys (IAM.3).
const oldAfter = 90 * 24 * time.Hour

// expiryWarns is how long before its expiry a named key pair should be rotated.
const expiryWarns = 14 * 24 * time.Hour

type snowflakeFacts struct {
	asked   bool
	user    string // the login name
	address string
	host    answer
	login   loginFacts
}

// loginFacts are Snowflake's answers to a key's user. The key is nil when there was none to log in with.
type loginFacts struct {
	key     *keyfile.Key
	name    string // the user's, "" if Snowflake did not say
	refused error
	slots   [2]snowflake.Slot
	pair    snowflake.KeyPair // the named key pair that has the key, if no slot has it
	unknown error             // why neither is known
	role    string
	noRole  error
	meant   string // the user's role whose name differs from SNOWFLAKE_ROLE only in case
}

func reachSnowflake(ctx context.Context, client *snowflake.Client) (s snowflakeFacts) {
	if client.Account == "" || client.Login == "" {
		return s
	}
	s.user = string(client.Login)
	s.asked, s.address = true, client.Address()
	s.host = ask(ctx, client.Reach)
	return s
}

// logIn tries the role that is set, and then none: a role that is refused does not mean that the key is.
func (s *snowflakeFacts) logIn(ctx context.Context, client *snowflake.Client, key *keyfile.Key) {
	within := func(call func(context.Context)) {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		call(ctx)
	}
	l := &s.login
	l.key = key
	within(func(ctx context.Context) { client, l.refused = identify(ctx, client, key) })
	if failure.Class(l.refused) == keyfile.ClassSnowflake && client.Role != "" {
		plain, role := *client, client.Role
		plain.Role = ""
		within(func(ctx context.Context) {
			if identified, err := identify(ctx, &plain, key); err == nil {
				l.noRole, l.refused, client = l.refused, nil, identified
			}
		})
		if l.refused == nil {
			within(func(ctx context.Context) { l.meant = similar(ctx, client, key, role) })
		}
	}
	if l.refused != nil {
		return
	}
	l.name = client.User
	var group sync.WaitGroup
	if l.noRole == nil {
		group.Go(func() { within(func(ctx context.Context) { l.role, l.noRole = currentRole(ctx, client, key) }) })
	}
	group.Go(func() { within(func(ctx context.Context) { l.locate(ctx, client) }) })
	group.Wait()
}

// identify logs in. A statement that fails does not mean that the key is refused.
func identify(ctx context.Context, client *snowflake.Client, key *keyfile.Key) (*snowflake.Client, error) {
	identified, err := client.Identify(ctx, key)
	if _, answered := errors.AsType[*snowflake.StatementError](err); answered {
		return client, nil
	}
	if err != nil {
		return client, err
	}
	return identified, nil
}

// similar returns the user's role whose name differs from role only in case, "" if there is none.
func similar(ctx context.Context, client *snowflake.Client, key *keyfile.Key, role snowflake.Role) string {
	roles, err := client.AvailableRoles(ctx, key)
	if err != nil {
		return ""
	}
	i := slices.IndexFunc(roles, func(r snowflake.Role) bool { return strings.EqualFold(string(r), string(role)) })
	if i < 0 {
		return ""
	}
	return string(roles[i])
}

func currentRole(ctx context.Context, client *snowflake.Client, key *keyfile.Key) (string, error) {
	result, err := client.Query(ctx, key, "SELECT CURRENT_ROLE()")
	if err != nil {
		return "", err
	}
	if len(result.Rows) != 1 || len(result.Rows[0]) != 1 {
		return "", errors.New("Snowflake did not say which")
	}
	return failure.Text(result.Rows[0][0]), nil
}

// locate finds the place of the key: a slot, or a named key pair.
func (l *loginFacts) locate(ctx context.Context, client *snowflake.Client) {
	l.slots, l.unknown = client.Slots(ctx, l.key)
	if _, found := l.slot(); l.unknown != nil || found {
		return
	}
	// An account without named key pairs does not know the statement: then no key pair has the key.
	var pairs []snowflake.KeyPair
	pairs, l.unknown = client.KeyPairs(ctx, l.key)
	if i := slices.IndexFunc(pairs, func(p snowflake.KeyPair) bool { return p.Fingerprint == l.key.Fingerprint() }); i >= 0 {
		l.pair = pairs[i]
	}
}

func (l *loginFacts) slot() (snowflake.Slot, bool) {
	for _, s := range l.slots {
		if s.Fingerprint == l.key.Fingerprint() {
			return s, true
		}
	}
	return snowflake.Slot{}, false
}

func judgeHost(f *facts) finding {
	s := f.snowflake
	of := f.of.Snowflake
	err := s.host.err
	switch {
	case err == nil && of.OtherForm != "":
		return warn(fmt.Sprintf("%s, answers; the account is written %q, which other clients may not read", s.address, of.OtherForm), otherForm(of.Account))
	case err == nil:
		return ok(s.address + ", answers")
	case s.answers():
		found := failed(err)
		return warn(found.says, found.advice)
	case noSuchHost(err) && onTheWay(err, s.address) == "":
		return fail(s.address+": no such host", correctHost(of))
	}
	found := callFailed(err, "Snowflake")
	return fail(s.address+": "+found.says, found.advice)
}

// answers reports whether anything answers at the host. The login shows whether that is Snowflake.
func (s *snowflakeFacts) answers() bool { return s.host.err == nil || !s.host.date.IsZero() }

func judgeSnowflakesClock(f *facts) finding {
	if f.snowflake.host.err != nil {
		return skip("what answers may not be Snowflake")
	}
	return judgeClock(f.snowflake.host, "Snowflake")
}

// correctHost is the advice about a host that does not exist: the host that is set comes before the account's own.
func correctHost(of config.Snowflake) string {
	if of.Host != "" {
		return "correct SNOWFLAKE_HOST, or leave it out: the account has a host of its own"
	}
	return "correct the account (SNOWFLAKE_ACCOUNT): ORGANIZATION-ACCOUNT, as in the account's URL"
}

// otherForm is the advice about an account in a form that drivers do not read.
func otherForm(a snowflake.Account) string {
	if a.IsHost() {
		return fmt.Sprintf("write it as %s, and SNOWFLAKE_HOST=%s", a.Label(), a)
	}
	return fmt.Sprintf("write it as %s", a)
}

func judgeLogin(f *facts) finding {
	l := f.snowflake.login
	user := f.snowflake.user
	if l.name != "" && !strings.EqualFold(l.name, user) {
		user = fmt.Sprintf("%s, whose name in statements is %s", user, snowflake.Identifier(l.name))
	}
	switch {
	case l.key == nil:
		return blocked("there is no key to log in with")
	case l.refused != nil:
		return callFailed(l.refused, "Snowflake")
	case f.key.key == nil:
		return ok(fmt.Sprintf("user %s, with the published key, since the newest was not read", user))
	default:
		return ok(fmt.Sprintf("user %s, with %s", user, l.key))
	}
}

func judgePublicKey(f *facts) finding {
	l := f.snowflake.login
	if l.unknown != nil {
		return f.unknown(l.unknown)
	}
	if slot, found := l.slot(); found {
		return ok(slot.Property())
	}
	if l.pair.Name != "" {
		return f.judgeKeyPair(l.pair)
	}
	return blocked("neither a slot nor a named key pair shows it")
}

// judgeKeyPair warns of a key pair that expires soon, or was rotated while its key is still in use.
func (f *facts) judgeKeyPair(p snowflake.KeyPair) finding {
	says := "the named key pair " + p.Name
	if p.ExpiresAt.IsZero() {
		return ok(says)
	}
	left := p.ExpiresAt.Sub(f.now)
	says = fmt.Sprintf("%s, which expires in %v", says, max(0, left).Round(time.Minute))
	if p.RotatedTo != "" {
		return warn(says+", since it was rotated to "+p.RotatedTo, "complete the rotation before: sidecar rotate --key-pair "+snowflake.Argument(p.RotatedTo))
	}
	if left < expiryWarns {
		return warn(says, "rotate it before: sidecar rotate --key-pair "+snowflake.Argument(p.Name))
	}
	return ok(says)
}

// unknown is the finding if an answer takes a privilege that the user lacks.
func (f *facts) unknown(err error) finding {
	found := warn(callFailed(err, "Snowflake").says, "run this with the privilege to see the user: DESC USER "+snowflake.Identifier(cmp.Or(f.snowflake.login.name, f.snowflake.user)))
	found.blocks = true
	return found
}

func judgeAge(f *facts) finding {
	l := f.snowflake.login
	set := l.pair.CreatedAt
	if slot, found := l.slot(); found {
		set = slot.SetAt
	}
	if set.IsZero() {
		return skip("Snowflake does not say when it was set")
	}
	age := f.now.Sub(set)
	says := fmt.Sprintf("set %s ago", days(age))
	if age > oldAfter {
		return warn(says, fmt.Sprintf("rotate it: keys should be replaced after %d days", oldAfter/(24*time.Hour)))
	}
	return ok(says)
}

func judgeOtherSlot(f *facts) finding {
	l := f.snowflake.login
	var others []string
	for _, s := range l.slots {
		switch {
		case s.Fingerprint == l.key.Fingerprint():
		case s.Fingerprint == "":
			others = append(others, s.Property()+", free")
		case s.SetAt.IsZero():
			others = append(others, s.Property()+", "+s.Fingerprint)
		default:
			others = append(others, fmt.Sprintf("%s, %s, set %s ago", s.Property(), s.Fingerprint, days(f.now.Sub(s.SetAt))))
		}
	}
	if others == nil {
		return ok("the same key")
	}
	return ok(strings.Join(others, "; "))
}

func days(d time.Duration) string {
	if n := int(d / (24 * time.Hour)); n != 1 {
		return fmt.Sprintf("%d days", max(0, n))
	}
	return "1 day"
}

func judgeRole(f *facts) finding {
	l, asked := f.snowflake.login, f.of.Snowflake.Role
	if l.meant != "" {
		return fail(fmt.Sprintf("there is no role %s for the user, and there is %s", snowflake.Identifier(string(asked)), snowflake.Identifier(l.meant)),
			"write SNOWFLAKE_ROLE="+snowflake.Identifier(l.meant)+", with the double quotes if it has any: without them a role's name is in upper case")
	}
	if l.noRole != nil {
		return callFailed(l.noRole, "Snowflake")
	}
	switch {
	case asked != "":
		return ok(l.role + ", from SNOWFLAKE_ROLE")
	case l.role == "":
		return warn("none", "set SNOWFLAKE_ROLE, or a DEFAULT_ROLE of the user")
	default:
		return ok(l.role + ", the user's default")
	}
}
