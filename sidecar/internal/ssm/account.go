package ssm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/lazyregexp"
)

var accountPattern = lazyregexp.New(`^\d{12}$`)

// A target is a parameter that a Store may read and write: a plain name, or an ARN of the Store's own account and
// Region. AWS accepts only the name in calls that write, and another account may have a parameter of that name.
type target struct {
	name  Name
	plain string // neither ARN nor selector
}

// target checks a name. Every method of a Store begins with it.
func (s *Store) target(ctx context.Context, written string) (target, error) {
	n, err := ParseName(written)
	if err != nil {
		return target{}, err
	}
	plain, err := n.Plain()
	if err != nil {
		return target{}, err
	}
	t := target{name: n, plain: plain}
	if !n.IsARN() {
		return t, nil
	}
	if err := s.checkRegion(n); err != nil {
		return target{}, err
	}
	own, err := s.ownAccount(ctx, t)
	if err != nil {
		return target{}, err
	}
	if own != n.account {
		return target{}, elsewhere(fmt.Errorf("%s is a parameter of another account, and the credentials are of account %s", n, own),
			"use credentials of account "+n.account)
	}
	return t, nil
}

// Check is nil for a parameter that the Store may write to. A plain name costs no call.
func (s *Store) Check(ctx context.Context, name string) error {
	_, err := s.target(ctx, name)
	return err
}

// checkRegion compares an ARN with the Region that is called. It makes no call.
func (s *Store) checkRegion(n Name) error {
	switch {
	case !n.IsARN():
		return nil
	case n.region != s.region:
		return elsewhere(fmt.Errorf("%s is in another Region than %s, which is called", n, s.region), "set AWS_REGION="+n.region)
	case n.partition != partition(s.region):
		return elsewhere(fmt.Errorf("%s is in another partition than Region %s", n, s.region), "correct the ARN: it begins with arn:"+partition(s.region)+":")
	}
	return nil
}

func elsewhere(err error, advice string) error {
	return failure.New(keyfile.ClassNotFound, err, advice)
}

// ownAccount is the account that the Store writes to. AWS names it with the credentials, with a parameter that exists
// there, or by STS.
func (s *Store) ownAccount(ctx context.Context, t target) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known != "" {
		return s.known, nil
	}
	if s.known = s.account(ctx); s.known != "" {
		return s.known, nil
	}
	var err error
	if s.known, err = s.accountOfParameter(ctx, t); s.known != "" || err != nil {
		return s.known, err
	}
	s.known, err = s.accountBySTS(ctx, t)
	return s.known, err
}

// accountOfParameter is "" if AWS does not name it, since the parameter does not exist or may not be read.
func (s *Store) accountOfParameter(ctx context.Context, t target) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	asked, err := ParseName(t.plain)
	if err != nil {
		return "", err
	}
	out, err := s.ssm.GetParameters(withBound(ctx, parametersBound([]Name{asked})), &ssm.GetParametersInput{Names: []string{t.plain}})
	source := asked.source(s.region)
	if api, ok := errors.AsType[smithy.APIError](err); ok && api.ErrorCode() == "AccessDeniedException" {
		return source.answered(resourceOf(api.ErrorMessage())).account, nil
	}
	if err != nil {
		return "", s.explain(err, call{name: t.name})
	}
	if p, ok := asked.find(out.Parameters, s.region); ok {
		source = source.answered(aws.ToString(p.ARN))
	}
	return source.account, nil
}

func (s *Store) accountBySTS(ctx context.Context, t target) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	out, err := s.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err == nil && accountPattern().MatchString(aws.ToString(out.Account)) {
		return *out.Account, nil
	}
	cause := errors.New("STS named no account")
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		cause = Answer(api)
	} else if err != nil {
		cause = failure.Redact(err)
	}
	return "", failure.New(keyfile.ClassOther, fmt.Errorf("whether %s is a parameter of this account is not known: %w", t.name, cause),
		fmt.Sprintf("let this machine reach %s (sts:GetCallerIdentity), or use credentials of account %s and write %s instead",
			cmp.Or(hostOf(err), "STS"), t.name.account, t.plain))
}

// ARN is the parameter's full name, as AWS has it, for messages about what was stored. Where AWS does not say the
// account it is the name and the Region.
func (s *Store) ARN(ctx context.Context, written string) string {
	n, err := ParseName(written)
	if err != nil || n.IsARN() { // checked before it was written
		return written
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == "" {
		s.known = s.account(ctx)
	}
	if s.known == "" {
		s.known, _ = s.accountOfParameter(ctx, target{name: n, plain: strings.TrimSpace(written)})
	}
	if s.known == "" {
		return written + " in " + s.region
	}
	return n.ARN(s.region, s.known)
}
