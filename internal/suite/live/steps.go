package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A step is one thing that is tried.
type step struct {
	name  string
	needs []string // steps without which it cannot run
	run   func(*trial, context.Context) error
}

// skipped is why a step was skipped: it is no failure.
type skipped string

func (n skipped) Error() string { return "skipped: " + string(n) }

// steps are all of them, in their order.
var steps = []step{
	{"programs", nil, (*trial).build},
	{"accounts", nil, (*trial).accounts},
	{"user and role", []string{"accounts"}, (*trial).userAndRole},
	{"KMS key", []string{"accounts"}, (*trial).kms},
	{"task roles with the examples' policies", []string{"KMS key"}, (*trial).taskRoles},
	{"keygen --put", []string{"programs", "user and role", "task roles with the examples' policies"}, (*trial).keygen},
	{"once --verify", []string{"keygen --put"}, (*trial).once},
	{"exec", []string{"keygen --put"}, (*trial).exec},
	{"run, and queries", []string{"keygen --put"}, (*trial).startTask},
	{"doctor", []string{"run, and queries"}, (*trial).doctor},
	{"rotate into the other slot", []string{"run, and queries"}, (*trial).rotate},
	{"rotate back", []string{"rotate into the other slot"}, (*trial).rotate},
	{"rotate with a label", []string{"rotate back"}, (*trial).rotateWithLabel},
	{"rotate to a named key pair", []string{"rotate with a label"}, (*trial).moveToKeyPair},
	{"rotate the named key pair", []string{"rotate to a named key pair"}, (*trial).rotateKeyPair},
	{"throttling", []string{"run, and queries"}, (*trial).throttle},
	{"queries, all of them", []string{"run, and queries"}, (*trial).stopTask},
	{"a secret of Secrets Manager", []string{"once --verify"}, (*trial).managedSecret},
	{"names and tiers of parameters", []string{"accounts"}, (*trial).parameterLimits},
	{"metadata without decryption", []string{"KMS key"}, (*trial).withoutDecryption},
	{"a name that needs quotes", []string{"once --verify"}, (*trial).quotedName},
	{"a restricted key pair", []string{"once --verify"}, (*trial).restrictedKeyPair},
	{"a network policy", []string{"once --verify"}, (*trial).networkPolicy},
	{"a Fargate task from the CloudFormation example", []string{"programs", "user and role"}, (*trial).fargate},
}

// missing says which of the steps that it needs has not succeeded.
func (s step) missing(results []result) error {
	for _, need := range s.needs {
		i := slices.IndexFunc(results, func(r result) bool { return r.step.name == need })
		if i < 0 || results[i].err != nil {
			return skipped("it needs the step " + need)
		}
	}
	return nil
}

// A result is how a step ended.
type result struct {
	step step
	err  error
	took time.Duration
}

func (r result) failed() bool {
	var n skipped
	return r.err != nil && !errors.As(r.err, &n)
}

func (r result) text() string {
	if r.err == nil {
		return "ok"
	}
	if r.failed() {
		return "failed: " + r.err.Error()
	}
	return r.err.Error()
}

// short has AWS's or Snowflake's code of a failure, and no text.
func (r result) short() string {
	if r.failed() {
		return "failed: " + codeOrOK(r.err)
	}
	return r.text()
}

// failures is the error of a trial in which a step failed.
func failures(results []result) error {
	var names []string
	for _, r := range results {
		if r.failed() {
			names = append(names, r.step.name)
		}
	}
	if names == nil {
		return nil
	}
	return fmt.Errorf("failed: %s", strings.Join(names, ", "))
}
