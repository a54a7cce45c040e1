package ssm

import (
	"strings"
	"testing"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

const (
	bareARN  = "arn:aws:secretsmanager:us-east-1:123456789012:secret:app/key" // GetSecretValue takes it
	wholeARN = bareARN + "-AbCdEf"
)

func TestSecretARN_FormsThatAreRead(t *testing.T) {
	aws, server := local(t)
	old := server.PutSecret("app/key", "KEY 1")
	server.PutSecret("app/key", "KEY 2")
	for source, tc := range map[string]struct{ written, text string }{
		"the console, describe-secret":       {wholeARN, "KEY 2"},
		"GetSecretValue, a partial ARN":      {bareARN, "KEY 2"},
		"Terraform, data without its suffix": {secretsManagerPrefix + bareARN, "KEY 2"},
		"ECS, nothing chosen":                {wholeARN + ":::", "KEY 2"},
		"ECS, without the last colons":       {wholeARN + ":", "KEY 2"},
		"ECS, a stage":                       {wholeARN + "::AWSPREVIOUS:", "KEY 1"},
		"ECS, a stage, no colon behind":      {bareARN + "::AWSPREVIOUS", "KEY 1"},
		"ECS, a version":                     {bareARN + ":::" + old, "KEY 1"},
	} {
		s := aws.source(tc.written, "")
		m := fetch(t, s, Revision{})
		if string(m.Text.Bytes()) != tc.text {
			t.Errorf("%s: %s", source, m.Text.Bytes())
		}
		k := s.keys[0]
		if got := k.Source().String(); !k.Source().Known() || !strings.HasPrefix(got, bareARN+"-") {
			t.Errorf("%s: the source is %s", source, got)
		}
	}
}

func TestSecretARN_FormsThatAreRefused(t *testing.T) {
	for source, tc := range map[string]struct{ written, says string }{
		"ECS, a key of the JSON":               {wholeARN + ":" + secretSetting + "::", "is a key of its JSON"},
		"the stage as in a reference of SSM":   {wholeARN + ":AWSPREVIOUS", "a stage is written ::STAGE:"},
		"a stage and a version":                {wholeARN + "::AWSCURRENT:" + secretSetting, "not with both"},
		"an IAM policy, for any suffix":        {bareARN + "-??????", "one of a policy"},
		"an IAM policy, for any end":           {bareARN + "*", "one of a policy"},
		"an IAM policy, for any secret":        {strings.Replace(bareARN, "app/key", "*", 1), "one of a policy"},
		"a colon more":                         {wholeARN + ":::a:b", "has the form"},
		"no name":                              {strings.TrimSuffix(bareARN, "app/key"), "has the form"},
		"an account with hyphens":              {strings.Replace(bareARN, "123456789012", "1234-5678-9012", 1), "has the form"},
		"an availability zone in it":           {strings.Replace(bareARN, "us-east-1", "us-east-1a", 1), "the Region in the ARN is not one as AWS writes it; write us-east-1"},
		"a parameter's, an availability zone":  {"arn:aws:ssm:us-east-1a:123456789012:parameter/app/key", "the Region in the ARN is not one as AWS writes it; write us-east-1"},
		"a secret in it that is not a name":    {bareARN + "$" + secretSetting, "letters, digits and"},
		"a template that was not filled in":    {"arn:aws:secretsmanager:${AWS::Region}:${AWS::AccountId}:secret:app/key", "has the form"},
		"a secret's ARN as a parameter's name": {"arn:aws:ssm:us-east-1:123456789012:secret:app/key", "an ARN of a parameter has the form"},
	} {
		_, err := ParseName(tc.written)
		if err == nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), secretSetting) {
			t.Errorf("%s: error %v, want %q", source, err, tc.says)
		}
	}
}

// A secret's own name may end in six characters, as those that AWS adds.
func TestSecretARN_NotFoundNamesTheOtherReading(t *testing.T) {
	aws, server := local(t)
	server.PutSecret("app/db-secret", "KEY")
	err := failedFetch(t.Context(), aws.source(strings.Replace(bareARN, "app/key", "app/db-secret", 1), ""))
	const advice = "or write /aws/reference/secretsmanager/app/db-secret if that is the secret's whole name"
	if failure.Class(err) != keyfile.ClassNotFound || !strings.Contains(err.Error(), advice) {
		t.Errorf("error %v", err)
	}
	if m := fetch(t, aws.source("/aws/reference/secretsmanager/app/db-secret", ""), Revision{}); string(m.Text.Bytes()) != "KEY" {
		t.Errorf("as advised: %s", m.Text.Bytes())
	}
	if err := failedFetch(t.Context(), aws.source(secretsManagerPrefix+"missing", "")); strings.Contains(err.Error(), "whole name") {
		t.Errorf("error %v for a plain name", err)
	}
}
