package localssm_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/snowkey/snowkey/internal/local/localssm"
	"github.com/snowkey/snowkey/internal/tools/awsemulator"
)

// TestConformance holds localssm against what AWS does, with the real SDK. With MOTO_ENDPOINT or LOCALSTACK_ENDPOINT
// set, the same cases also run against moto or LocalStack, which others wrote from AWS's behaviour: what all pass is not
// only our own reading of the documentation. make test-moto and make test-localstack start them and set the variable.
func TestConformance(t *testing.T) {
	t.Run("local", func(t *testing.T) {
		server := localssm.New()
		local := httptest.NewServer(server)
		t.Cleanup(local.Close)
		runConformance(t, local.URL, localServices{server}, func(c conformanceCase) check { return c.aws })
	})
	for name, url := range awsemulator.Endpoints() {
		t.Run(name, func(t *testing.T) {
			runConformance(t, url, remoteServices{awsemulator.Services(url)}, func(c conformanceCase) check { return c.checkOf(name) })
		})
	}
}

func runConformance(t *testing.T, url string, beside services, pick func(conformanceCase) check) {
	for _, c := range conformanceCases {
		t.Run(c.name, func(t *testing.T) {
			pick(c)(t, newEndpoint(t, url, beside))
		})
	}
}

type check func(*testing.T, *endpoint)

// conformanceCase says what AWS does. Where moto or LocalStack does something else, its deviation says what, and source
// where AWS's answer is written down.
type conformanceCase struct {
	name       string
	source     string
	aws        check
	others     deviation // of moto and of LocalStack, which has moto inside
	moto       deviation // of moto alone
	localstack deviation // of LocalStack alone
}

type deviation struct {
	note  string
	check check
}

// checkOf is what an emulator has to pass.
func (c conformanceCase) checkOf(name string) check {
	differs := map[string]deviation{"moto": c.moto, "localstack": c.localstack}[name]
	if differs.note == "" {
		differs = c.others
	}
	if differs.note == "" {
		return c.aws
	}
	return func(t *testing.T, e *endpoint) {
		t.Log(name + " differs from AWS: " + differs.note + ". AWS: " + c.source)
		if c.source == "" {
			t.Error("the case does not say where AWS's answer is written down")
		}
		differs.check(t, e)
	}
}

var conformanceCases = []conformanceCase{
	{
		name: "GetParameter answers with every field",
		aws: func(t *testing.T, e *endpoint) {
			name := e.put("key", "value", types.ParameterTypeString)
			p := e.get(name, false)
			equal(t, "ARN", deref(p.ARN), e.arn(name))
			equal(t, "DataType", deref(p.DataType), "text")
			equal(t, "Name", deref(p.Name), name)
			equal(t, "Type", p.Type, types.ParameterTypeString)
			equal(t, "Value", deref(p.Value), "value")
			equal(t, "Version", p.Version, 1)
			equal(t, "Selector", deref(p.Selector), "")
			if p.LastModifiedDate == nil || time.Since(*p.LastModifiedDate).Abs() > time.Minute {
				t.Errorf("LastModifiedDate = %v, want about now", p.LastModifiedDate)
			}
		},
	},
	{
		name:   "GetParameter of an unknown name",
		source: "its message is empty in awslabs/aws-simple-cicd, issue 10, among many",
		aws: func(t *testing.T, e *endpoint) {
			_, err := e.GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String(e.name("missing"))})
			wantError(t, err, "ParameterNotFound", "")
		},
		others: deviation{"ParameterNotFound has a message", func(t *testing.T, e *endpoint) {
			name := e.name("missing")
			_, err := e.GetParameter(t.Context(), &ssm.GetParameterInput{Name: &name})
			wantError(t, err, "ParameterNotFound", "Parameter "+name+" not found.")
		}},
	},
	{
		name:   "GetParameter of a name that cannot be one",
		source: "its answer stands in localstack, issue 7712",
		aws: func(t *testing.T, e *endpoint) {
			for _, name := range []string{"has space", "//double", "/trailing/", "a/b", "ssm-key", "/p@ram/x"} {
				_, err := e.GetParameter(t.Context(), &ssm.GetParameterInput{Name: &name})
				wantError(t, err, "ValidationException", badName)
			}
		},
		others: deviation{"names to read are not validated", func(t *testing.T, e *endpoint) {
			_, err := e.GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String("has space")})
			wantError(t, err, "ParameterNotFound", "Parameter has space not found.")
		}},
	},
	{
		name:   "a name without hierarchy may begin with a slash",
		source: "no document says which of the two names",
		aws: func(t *testing.T, e *endpoint) {
			name := "flat-" + e.id
			e.putNamed(name, "value", types.ParameterTypeString)
			equal(t, "Name", deref(e.get(name, false).Name), name)
			equal(t, "Name", deref(e.get("/"+name, false).Name), "/"+name)
			equal(t, "Name", deref(e.get(e.arn(name), false).Name), name)
		},
		moto: deviation{"the answer has the name that was stored", func(t *testing.T, e *endpoint) {
			name := "flat-" + e.id
			e.putNamed(name, "value", types.ParameterTypeString)
			equal(t, "Name", deref(e.get("/"+name, false).Name), name)
		}},
	},
	{
		name:   "GetParameter by version and by label",
		source: "Parameter in the API reference has Selector",
		aws: func(t *testing.T, e *endpoint) {
			name := e.versionsOneAndTwo()
			e.label(name, 1, "prod")
			for _, selector := range []string{":1", ":prod"} {
				p := e.get(name+selector, false)
				equal(t, "Name", deref(p.Name), name)
				equal(t, "Value", deref(p.Value), "one")
				equal(t, "Version", p.Version, 1)
				equal(t, "Selector", deref(p.Selector), selector)
				equal(t, "ARN", deref(p.ARN), e.arn(name))
			}
		},
		others: deviation{"no Selector", func(t *testing.T, e *endpoint) {
			name := e.versionsOneAndTwo()
			e.label(name, 1, "prod")
			for _, selector := range []string{":1", ":prod"} {
				p := e.get(name+selector, false)
				equal(t, "Name", deref(p.Name), name)
				equal(t, "Value", deref(p.Value), "one")
				equal(t, "Version", p.Version, 1)
				equal(t, "Selector", deref(p.Selector), "")
			}
		}},
	},
	{
		name: "GetParameter of an unknown version",
		aws: func(t *testing.T, e *endpoint) {
			name := e.versionsOneAndTwo()
			_, err := e.GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String(name + ":3")})
			wantError(t, err, "ParameterVersionNotFound", "Systems Manager could not find version 3 of "+name+". Verify the version and try again.")
			var modelled *types.ParameterVersionNotFound
			if !errors.As(err, &modelled) {
				t.Errorf("error is %T, want the SDK's type", err)
			}
		},
	},
	{
		name:   "GetParameter of an unknown label",
		source: "GetParameter has ParameterVersionNotFound, and a label stands for a version",
		aws: func(t *testing.T, e *endpoint) {
			name := e.versionsOneAndTwo()
			_, err := e.GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String(name + ":none")})
			wantCode(t, err, "ParameterVersionNotFound")
		},
		others: deviation{"an unknown label is ParameterNotFound", func(t *testing.T, e *endpoint) {
			name := e.versionsOneAndTwo()
			_, err := e.GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String(name + ":none")})
			wantCode(t, err, "ParameterNotFound")
		}},
	},
	{
		name: "GetParameter by ARN",
		aws: func(t *testing.T, e *endpoint) {
			name := e.versionsOneAndTwo()
			equal(t, "Name", deref(e.get(e.arn(name), false).Name), name)
			p := e.get(e.arn(name)+":1", false)
			equal(t, "Name", deref(p.Name), name)
			equal(t, "Value", deref(p.Value), "one")
			equal(t, "ARN", deref(p.ARN), e.arn(name))
		},
	},
	{
		name:   "GetParameters by ARN",
		source: "InvalidParameters are names of the request",
		aws: func(t *testing.T, e *endpoint) {
			name := e.versionsOneAndTwo()
			out := e.getAll(false, e.arn(name), e.arn(name+"-missing"))
			equal(t, "Parameters", values(out), map[string]string{name: "two"})
			equal(t, "InvalidParameters", out.InvalidParameters, []string{e.arn(name + "-missing")})
			equal(t, "ARN", deref(out.Parameters[0].ARN), e.arn(name))
		},
		localstack: deviation{"InvalidParameters has the bare name", func(t *testing.T, e *endpoint) {
			name := e.versionsOneAndTwo()
			out := e.getAll(false, e.arn(name), e.arn(name+"-missing"))
			equal(t, "Parameters", values(out), map[string]string{name: "two"})
			equal(t, "InvalidParameters", out.InvalidParameters, []string{name + "-missing"})
		}},
	},
	{
		name: "GetParameters succeeds in part",
		aws: func(t *testing.T, e *endpoint) {
			first := e.put("first", "1", types.ParameterTypeString)
			second := e.put("second", "2", types.ParameterTypeString)
			out := e.getAll(false, first, e.name("missing"), second)
			equal(t, "Parameters", values(out), map[string]string{first: "1", second: "2"})
			equal(t, "InvalidParameters", out.InvalidParameters, []string{e.name("missing")})
		},
	},
	{
		name: "GetParameters reports an unknown version and an unknown label as invalid",
		aws: func(t *testing.T, e *endpoint) {
			name := e.versionsOneAndTwo()
			out := e.getAll(false, name+":2", name+":9", name+":none")
			equal(t, "Parameters", values(out), map[string]string{name: "two"})
			slices.Sort(out.InvalidParameters)
			equal(t, "InvalidParameters", out.InvalidParameters, []string{name + ":9", name + ":none"})
		},
	},
	{
		name:   "GetParameters answers with bare names and selectors",
		source: "Parameter in the API reference has Selector",
		aws: func(t *testing.T, e *endpoint) {
			name := e.versionsOneAndTwo()
			other := e.put("other", "x", types.ParameterTypeString)
			out := e.getAll(false, name+":1", other)
			for _, p := range out.Parameters {
				if deref(p.Name) == name {
					equal(t, "Selector", deref(p.Selector), ":1")
				}
			}
			equal(t, "Parameters", values(out), map[string]string{name: "one", other: "x"})
		},
		others: deviation{"no Selector", func(t *testing.T, e *endpoint) {
			name := e.versionsOneAndTwo()
			out := e.getAll(false, name+":1")
			equal(t, "Parameters", values(out), map[string]string{name: "one"})
			equal(t, "Selector", deref(out.Parameters[0].Selector), "")
		}},
	},
	{
		name:   "GetParameters promises no order",
		source: "the API reference speaks of alphabetical order; a client that needs none is right with either",
		aws: func(t *testing.T, e *endpoint) {
			a, b := e.put("a", "1", types.ParameterTypeString), e.put("b", "2", types.ParameterTypeString)
			seen := map[string]bool{}
			for range 200 {
				out := e.getAll(false, a, b)
				if seen[deref(out.Parameters[0].Name)] = true; len(seen) == 2 {
					return
				}
			}
			t.Errorf("200 answers all began with %v", seen)
		},
		others: deviation{"the order of one process may be stable; only completeness is asserted", func(t *testing.T, e *endpoint) {
			a, b := e.put("a", "1", types.ParameterTypeString), e.put("b", "2", types.ParameterTypeString)
			equal(t, "Parameters", values(e.getAll(false, a, b)), map[string]string{a: "1", b: "2"})
		}},
	},
	{
		name: "GetParameters takes ten names",
		aws: func(t *testing.T, e *endpoint) {
			var names []string
			for i := range 10 {
				names = append(names, e.name(fmt.Sprint("missing-", i)))
			}
			equal(t, "invalid", len(e.getAll(false, names...).InvalidParameters), 10)
			_, err := e.GetParameters(t.Context(), &ssm.GetParametersInput{Names: append(names, e.name("one-more"))})
			wantCode(t, err, "ValidationException")
			wantMessage(t, err, "at 'names' failed to satisfy constraint: Member must have length less than or equal to 10.")
		},
	},
	{
		name:   "GetParameters takes at least one name",
		source: "GetParameters has Names with a minimum of 1 item",
		aws: func(t *testing.T, e *endpoint) {
			_, err := e.GetParameters(t.Context(), &ssm.GetParametersInput{Names: []string{}})
			wantCode(t, err, "ValidationException")
		},
		others: deviation{"no name at all is an empty answer", func(t *testing.T, e *endpoint) {
			equal(t, "Parameters", len(e.getAll(false).Parameters), 0)
		}},
	},
	{
		name: "a SecureString is decrypted when asked for",
		aws: func(t *testing.T, e *endpoint) {
			name := e.put("key", "secret", types.ParameterTypeSecureString)
			p := e.get(name, true)
			equal(t, "Type", p.Type, types.ParameterTypeSecureString)
			equal(t, "Value", deref(p.Value), "secret")
			equal(t, "Parameters", values(e.getAll(true, name)), map[string]string{name: "secret"})
		},
	},
	{
		name:   "a SecureString is ciphertext otherwise, and the same ciphertext until it changes",
		source: "GetParameter's WithDecryption",
		aws: func(t *testing.T, e *endpoint) {
			name := e.put("key", "secret", types.ParameterTypeSecureString)
			p := e.get(name, false)
			first := deref(p.Value)
			if first == "" || strings.Contains(first, "secret") {
				t.Errorf("Value = %q, want ciphertext", first)
			}
			equal(t, "Version", p.Version, 1)
			equal(t, "Value", deref(e.get(name, false).Value), first)
			e.overwrite(name, "secret")
			if second := deref(e.get(name, false).Value); second == first {
				t.Error("the next version has the same ciphertext")
			}
			equal(t, "Value", deref(e.get(name+":1", false).Value), first)
		},
		others: deviation{"the plaintext is shown, behind the name of the key", func(t *testing.T, e *endpoint) {
			name := e.put("key", "secret", types.ParameterTypeSecureString)
			equal(t, "Value", deref(e.get(name, false).Value), "kms:alias/aws/ssm:secret")
		}},
	},
	{
		name: "WithDecryption does nothing to a String",
		aws: func(t *testing.T, e *endpoint) {
			name := e.put("key", "value", types.ParameterTypeString)
			equal(t, "Value", deref(e.get(name, true).Value), "value")
		},
	},
	{
		name: "PutParameter needs Overwrite for what exists",
		aws: func(t *testing.T, e *endpoint) {
			name := e.put("key", "one", types.ParameterTypeString)
			_, err := e.PutParameter(t.Context(), &ssm.PutParameterInput{Name: &name, Value: aws.String("two"), Type: types.ParameterTypeString})
			wantError(t, err, "ParameterAlreadyExists", "The parameter already exists. To overwrite this value, set the overwrite option in the request to true.")
			equal(t, "Version", e.overwrite(name, "two"), 2)
			equal(t, "Value", deref(e.get(name, false).Value), "two")
		},
	},
	{
		name: "PutParameter keeps the type that it is not given",
		aws: func(t *testing.T, e *endpoint) {
			name := e.put("key", "one", types.ParameterTypeSecureString)
			e.overwrite(name, "two")
			p := e.get(name, true)
			equal(t, "Type", p.Type, types.ParameterTypeSecureString)
			equal(t, "Value", deref(p.Value), "two")
		},
	},
	{
		name: "PutParameter refuses what it cannot store",
		aws: func(t *testing.T, e *endpoint) {
			name, str := e.name("key"), types.ParameterTypeString
			for _, refused := range []struct {
				in            ssm.PutParameterInput
				code, message string
			}{
				{ssm.PutParameterInput{Name: &name, Value: aws.String("v")}, "ValidationException", "A parameter type is required when you create a parameter."},
				{ssm.PutParameterInput{Name: &name, Value: aws.String(""), Type: str}, "ValidationException", "1 validation error detected: Value '' at 'value' failed to satisfy constraint: Member must have length greater than or equal to 1."},
				{ssm.PutParameterInput{Name: &name, Value: aws.String("v"), Type: "Number"}, "ValidationException", "1 validation error detected: Value 'Number' at 'type' failed to satisfy constraint: Member must satisfy enum value set: [SecureString, StringList, String]"},
				{ssm.PutParameterInput{Name: &name, Value: aws.String("v"), Type: str, Overwrite: aws.Bool(true), Tags: []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}}}, "ValidationException", "Invalid request: tags and overwrite can't be used together. To create a parameter with tags, please remove overwrite flag. To update tags for an existing parameter, please use AddTagsToResource or RemoveTagsFromResource."},
				{ssm.PutParameterInput{Name: aws.String("/aws/" + e.id), Value: aws.String("v"), Type: str}, "AccessDeniedException", "No access to reserved parameter name: /aws/" + e.id + "."},
				{ssm.PutParameterInput{Name: aws.String("aws-" + e.id), Value: aws.String("v"), Type: str}, "ValidationException", `Parameter name: can't be prefixed with "aws" or "ssm" (case-insensitive).`},
				{ssm.PutParameterInput{Name: aws.String("/SSM/" + e.id), Value: aws.String("v"), Type: str}, "ValidationException", badName},
			} {
				_, err := e.PutParameter(t.Context(), &refused.in)
				wantError(t, err, refused.code, refused.message)
			}
		},
	},
	{
		name:   "PutParameter refuses a name that could not be read",
		source: "PutParameter's Name",
		aws: func(t *testing.T, e *endpoint) {
			for name, message := range map[string]string{
				e.name("key:1"):   badName,
				e.name("a key"):   badName,
				e.name("k") + "/": badName,
				e.id + "/key":     "Parameter name must be a fully qualified name.",
			} {
				_, err := e.PutParameter(t.Context(), &ssm.PutParameterInput{Name: &name, Value: aws.String("v"), Type: types.ParameterTypeString})
				wantError(t, err, "ValidationException", message)
			}
			deep := strings.Repeat("/x", 16)
			_, err := e.PutParameter(t.Context(), &ssm.PutParameterInput{Name: &deep, Value: aws.String("v"), Type: types.ParameterTypeString})
			wantCode(t, err, "HierarchyLevelLimitExceededException")
		},
		moto: deviation{"only prefixes are looked at; DescribeParameters fails as long as a name with a colon is stored", func(t *testing.T, e *endpoint) {
			for _, name := range []string{e.name("key:1"), e.name("a key"), e.id + "/key", "/" + e.id + strings.Repeat("/x", 16)} {
				e.putNamed(name, "value", types.ParameterTypeString)
				_, err := e.DeleteParameter(t.Context(), &ssm.DeleteParameterInput{Name: &name})
				noError(t, err)
			}
		}},
		localstack: deviation{"the same, and a name that lacks its first slash gets one", func(t *testing.T, e *endpoint) {
			for _, name := range []string{e.name("key:1"), e.name("a key"), "/" + e.id + strings.Repeat("/x", 16)} {
				e.putNamed(name, "value", types.ParameterTypeString)
				_, err := e.DeleteParameter(t.Context(), &ssm.DeleteParameterInput{Name: &name})
				noError(t, err)
			}
			e.putNamed(e.id+"/key", "value", types.ParameterTypeString)
			equal(t, "Value", deref(e.get(e.name("key"), false).Value), "value")
		}},
	},
	{
		name:   "PutParameter holds the size against the tier",
		source: "PutParameter's Tier",
		aws: func(t *testing.T, e *endpoint) {
			name := e.name("key")
			_, err := e.PutParameter(t.Context(), sized(name, 4097, ""))
			wantError(t, err, "ValidationException", "Standard tier parameters support a maximum parameter value of 4096 characters. To create a larger parameter value, upgrade the parameter to use the advanced-parameter tier. For more information, see https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-advanced-parameters.html")
			_, err = e.PutParameter(t.Context(), sized(name, 8193, types.ParameterTierAdvanced))
			wantCode(t, err, "ValidationException")
			wantMessage(t, err, "Advanced-tier parameters support a maximum parameter value of 8192 characters.")
			e.mustPut(sized(name, 4096, types.ParameterTierStandard))
			e.mustPut(sized(name, 8192, types.ParameterTierAdvanced))
			_, err = e.PutParameter(t.Context(), sized(name, 1, types.ParameterTierStandard))
			wantCode(t, err, "ValidationException")
			wantMessage(t, err, "You can't downgrade a parameter from the advanced-parameter tier to the standard-parameter tier.")
			equal(t, "Tier", e.mustPut(sized(name, 1, "")).Tier, types.ParameterTierAdvanced)
		},
		others: deviation{"no size limit, and a tier can be lowered", func(t *testing.T, e *endpoint) {
			name := e.name("key")
			e.mustPut(sized(name, 4097, types.ParameterTierStandard))
			e.mustPut(sized(name, 8193, types.ParameterTierAdvanced))
			equal(t, "Tier", e.mustPut(sized(name, 1, types.ParameterTierStandard)).Tier, types.ParameterTierStandard)
		}},
	},
	{
		name:   "Intelligent-Tiering chooses a tier by size",
		source: "PutParameter's Tier",
		aws: func(t *testing.T, e *endpoint) {
			equal(t, "Tier", e.mustPut(sized(e.name("small"), 4096, types.ParameterTierIntelligentTiering)).Tier, types.ParameterTierStandard)
			equal(t, "Tier", e.mustPut(sized(e.name("large"), 4097, types.ParameterTierIntelligentTiering)).Tier, types.ParameterTierAdvanced)
		},
		others: deviation{"Intelligent-Tiering is stored as it is", func(t *testing.T, e *endpoint) {
			equal(t, "Tier", e.mustPut(sized(e.name("large"), 4097, types.ParameterTierIntelligentTiering)).Tier, types.ParameterTierIntelligentTiering)
		}},
	},
	{
		name:   "parameter policies take the advanced tier",
		source: "PutParameter's Tier; the words of the error stand nowhere",
		aws: func(t *testing.T, e *endpoint) {
			_, err := e.PutParameter(t.Context(), withPolicy(e.name("none"), ""))
			wantCode(t, err, "ValidationException")
			_, err = e.PutParameter(t.Context(), withPolicy(e.name("none"), types.ParameterTierStandard))
			wantCode(t, err, "ValidationException")
			for _, tier := range []types.ParameterTier{types.ParameterTierAdvanced, types.ParameterTierIntelligentTiering} {
				equal(t, "Tier", e.mustPut(withPolicy(e.name(string(tier)), tier)).Tier, types.ParameterTierAdvanced)
			}
		},
		others: deviation{"a standard parameter takes policies", func(t *testing.T, e *endpoint) {
			equal(t, "Tier", e.mustPut(withPolicy(e.name("key"), types.ParameterTierStandard)).Tier, types.ParameterTierStandard)
		}},
	},
	{
		name:   "a parameter's ARN has 1011 characters at most",
		source: "PutParameter's Name",
		aws: func(t *testing.T, e *endpoint) {
			flat := e.id + strings.Repeat("x", 1011-len(e.arn(e.id)))
			e.putNamed(flat, "value", types.ParameterTypeString)
			equal(t, "Value", deref(e.get(flat, false).Value), "value")
			_, err := e.PutParameter(t.Context(), &ssm.PutParameterInput{Name: aws.String(flat + "x"), Value: aws.String("v"), Type: types.ParameterTypeString})
			wantCode(t, err, "ValidationException")
		},
		others: deviation{"the ARN may be longer", func(t *testing.T, e *endpoint) {
			e.putNamed(e.id+strings.Repeat("x", 1012-len(e.arn(e.id))), "value", types.ParameterTypeString)
		}},
	},
	{
		name: "a SecureString takes a KMS key by ID, ARN, alias and ARN of the alias",
		aws: func(t *testing.T, e *endpoint) {
			alias := "alias/" + e.id
			id := e.createKMSKey(t, alias)
			const arn = "arn:aws:kms:us-east-1:" + account + ":"
			for i, key := range []string{id, arn + "key/" + id, alias, arn + alias, "alias/aws/ssm"} {
				name := e.name(fmt.Sprint("key-", i))
				e.mustPut(withKey(name, key))
				equal(t, "Value", deref(e.get(name, true).Value), "value")
			}
		},
	},
	{
		name:   "a KMS key that is not there is refused",
		source: "PutParameter has InvalidKeyId; the words are in binxio/aws-ssm-copy, issue 10, and cloudposse/docs, issue 152",
		aws: func(t *testing.T, e *endpoint) {
			const arn, missing = "arn:aws:kms:us-east-1:" + account + ":", "0f9b04ee-ab13-4f35-a2b2-d0902bfe6a1e"
			for key, message := range map[string]string{
				"alias/" + e.id: "Alias " + arn + "alias/" + e.id + " is not found. (Service: AWSKMS; Status Code: 400; Error Code: NotFoundException; ",
				missing:         "Key '" + arn + "key/" + missing + "' does not exist (Service: AWSKMS; Status Code: 400; Error Code: NotFoundException; ",
			} {
				_, err := e.PutParameter(t.Context(), withKey(e.name("key"), key))
				wantPrefix(t, "message", wantCode(t, err, "InvalidKeyId"), message)
			}
			_, err := e.PutParameter(t.Context(), withKey(e.name("key"), "no-key"))
			wantCode(t, err, "InvalidKeyId")
			equal(t, "stored", len(e.getAll(true, e.name("key")).Parameters), 0)
		},
		others: deviation{"the key is never asked for", func(t *testing.T, e *endpoint) {
			e.mustPut(withKey(e.name("key"), "alias/"+e.id))
			equal(t, "Value", deref(e.get(e.name("key"), true).Value), "value")
		}},
	},
	{
		name:   "a disabled KMS key neither encrypts nor decrypts",
		source: "GetParameter and PutParameter have InvalidKeyId",
		aws: func(t *testing.T, e *endpoint) {
			alias := "alias/" + e.id
			id := e.createKMSKey(t, alias)
			e.mustPut(withKey(e.name("key"), alias))
			e.disableKMSKey(t, id, alias)
			disabled := "arn:aws:kms:us-east-1:" + account + ":key/" + id + " is disabled. (Service: AWSKMS; Status Code: 400; Error Code: DisabledException; "
			_, err := e.PutParameter(t.Context(), withKey(e.name("other"), id))
			wantPrefix(t, "message", wantCode(t, err, "InvalidKeyId"), disabled)
			_, err = e.GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String(e.name("key")), WithDecryption: aws.Bool(true)})
			wantPrefix(t, "message", wantCode(t, err, "InvalidKeyId"), disabled)
			e.get(e.name("key"), false)
		},
		others: deviation{"the key is never used", func(t *testing.T, e *endpoint) {
			id := e.createKMSKey(t, "alias/"+e.id)
			e.disableKMSKey(t, id, "alias/"+e.id)
			e.mustPut(withKey(e.name("key"), id))
			equal(t, "Value", deref(e.get(e.name("key"), true).Value), "value")
		}},
	},
	{
		name: "a parameter keeps a hundred versions",
		aws: func(t *testing.T, e *endpoint) {
			name := e.put("key", "1", types.ParameterTypeString)
			for range 100 {
				e.overwrite(name, "more")
			}
			_, err := e.GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String(name + ":1")})
			wantCode(t, err, "ParameterVersionNotFound")
			equal(t, "Version", e.get(name, false).Version, 101)

			e.label(name, 2, "held")
			_, err = e.PutParameter(t.Context(), &ssm.PutParameterInput{Name: &name, Value: aws.String("v"), Overwrite: aws.Bool(true)})
			wantError(t, err, "ParameterMaxVersionLimitExceeded", "You attempted to create a new version of "+name+" by calling the PutParameter API with the overwrite flag. Version 2, the oldest version, can't be deleted because it has a label associated with it. Move the label to another version of the parameter, and try again.")
			e.label(name, 101, "held")
			equal(t, "Version", e.overwrite(name, "v"), 102)
		},
	},
	{
		name: "a label moves to another version",
		aws: func(t *testing.T, e *endpoint) {
			name := e.versionsOneAndTwo()
			e.label(name, 1, "prod")
			e.label(name, 2, "prod", "next")
			equal(t, "Value", deref(e.get(name+":prod", false).Value), "two")
			equal(t, "Value", deref(e.get(name+":next", false).Value), "two")
		},
	},
	{
		name: "a label goes to the latest version unless told otherwise",
		aws: func(t *testing.T, e *endpoint) {
			name := e.versionsOneAndTwo()
			out, err := e.LabelParameterVersion(t.Context(), &ssm.LabelParameterVersionInput{Name: &name, Labels: []string{"prod"}})
			noError(t, err)
			equal(t, "ParameterVersion", out.ParameterVersion, 2)
		},
	},
	{
		name: "an invalid label is reported, and the others are attached",
		aws: func(t *testing.T, e *endpoint) {
			name := e.versionsOneAndTwo()
			out, err := e.LabelParameterVersion(t.Context(), &ssm.LabelParameterVersionInput{Name: &name, Labels: []string{"1st", "awsome", "ssm.x", "a/b", "good"}})
			noError(t, err)
			equal(t, "InvalidLabels", out.InvalidLabels, []string{"1st", "awsome", "ssm.x", "a/b"})
			equal(t, "Value", deref(e.get(name+":good", false).Value), "two")
		},
	},
	{
		name:   "LabelParameterVersion of an unknown name",
		source: "LabelParameterVersion has ParameterNotFound, and stores nothing then",
		aws: func(t *testing.T, e *endpoint) {
			_, err := e.LabelParameterVersion(t.Context(), &ssm.LabelParameterVersionInput{Name: aws.String(e.name("missing")), Labels: []string{"prod"}})
			wantCode(t, err, "ParameterNotFound")
		},
		others: deviation{"a parameter without versions stays behind; DescribeParameters fails until it gets one", func(t *testing.T, e *endpoint) {
			_, err := e.LabelParameterVersion(t.Context(), &ssm.LabelParameterVersionInput{Name: aws.String(e.name("missing")), Labels: []string{"prod"}})
			wantCode(t, err, "ParameterNotFound")
			e.put("missing", "value", types.ParameterTypeString)
		}},
	},
	{
		name: "LabelParameterVersion refuses what it cannot attach",
		aws: func(t *testing.T, e *endpoint) {
			name := e.versionsOneAndTwo()
			_, err := e.LabelParameterVersion(t.Context(), &ssm.LabelParameterVersionInput{Name: &name, Labels: []string{"prod"}, ParameterVersion: aws.Int64(3)})
			wantError(t, err, "ParameterVersionNotFound", "Systems Manager could not find version 3 of "+name+". Verify the version and try again.")
			_, err = e.LabelParameterVersion(t.Context(), &ssm.LabelParameterVersionInput{Name: &name, Labels: []string{strings.Repeat("x", 101)}})
			wantCode(t, err, "ValidationException")

			e.label(name, 1, "a", "b", "c", "d", "e", "f", "g", "h", "i", "j")
			_, err = e.LabelParameterVersion(t.Context(), &ssm.LabelParameterVersionInput{Name: &name, Labels: []string{"k"}, ParameterVersion: aws.Int64(1)})
			wantCode(t, err, "ParameterVersionLabelLimitExceeded")
		},
	},
	{
		name: "GetParameterHistory pages through versions, oldest first, with labels",
		aws: func(t *testing.T, e *endpoint) {
			name := e.put("key", "one", types.ParameterTypeSecureString)
			e.overwrite(name, "two")
			e.overwrite(name, "three")
			e.label(name, 2, "prod")
			var got []string
			pages := ssm.NewGetParameterHistoryPaginator(e, &ssm.GetParameterHistoryInput{Name: &name, WithDecryption: aws.Bool(true), MaxResults: aws.Int32(2)})
			for pages.HasMorePages() {
				out, err := pages.NextPage(t.Context())
				noError(t, err)
				for _, v := range out.Parameters {
					got = append(got, fmt.Sprint(v.Version, deref(v.Value), v.Labels, v.Type, v.Tier, deref(v.KeyId)))
				}
			}
			equal(t, "history", got, []string{
				"1one[]SecureStringStandardalias/aws/ssm",
				"2two[prod]SecureStringStandardalias/aws/ssm",
				"3three[]SecureStringStandardalias/aws/ssm",
			})
		},
	},
	{
		name: "GetParameterHistory refuses what it cannot page",
		aws: func(t *testing.T, e *endpoint) {
			name := e.versionsOneAndTwo()
			_, err := e.GetParameterHistory(t.Context(), &ssm.GetParameterHistoryInput{Name: &name, MaxResults: aws.Int32(51)})
			wantCode(t, err, "ValidationException")
			_, err = e.GetParameterHistory(t.Context(), &ssm.GetParameterHistoryInput{Name: aws.String(e.name("missing"))})
			wantCode(t, err, "ParameterNotFound")
		},
	},
	{
		name: "DeleteParameter forgets all versions",
		aws: func(t *testing.T, e *endpoint) {
			name := e.versionsOneAndTwo()
			_, err := e.DeleteParameter(t.Context(), &ssm.DeleteParameterInput{Name: &name})
			noError(t, err)
			_, err = e.GetParameter(t.Context(), &ssm.GetParameterInput{Name: &name})
			wantCode(t, err, "ParameterNotFound")
			_, err = e.DeleteParameter(t.Context(), &ssm.DeleteParameterInput{Name: &name})
			wantCode(t, err, "ParameterNotFound")
			e.put("key", "again", types.ParameterTypeString)
			equal(t, "Version", e.get(name, false).Version, 1)
		},
	},
	{
		name: "DeleteParameters succeeds in part",
		aws: func(t *testing.T, e *endpoint) {
			name := e.versionsOneAndTwo()
			out, err := e.DeleteParameters(t.Context(), &ssm.DeleteParametersInput{Names: []string{e.name("missing"), name}})
			noError(t, err)
			equal(t, "DeletedParameters", out.DeletedParameters, []string{name})
			equal(t, "InvalidParameters", out.InvalidParameters, []string{e.name("missing")})
		},
	},
	{
		name: "tags are kept",
		aws: func(t *testing.T, e *endpoint) {
			name := e.name("key")
			e.mustPut(&ssm.PutParameterInput{Name: &name, Value: aws.String("v"), Type: types.ParameterTypeString, Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("1")}}})
			_, err := e.AddTagsToResource(t.Context(), &ssm.AddTagsToResourceInput{ResourceId: &name, ResourceType: types.ResourceTypeForTaggingParameter, Tags: []types.Tag{{Key: aws.String("b"), Value: aws.String("2")}}})
			noError(t, err)
			out, err := e.ListTagsForResource(t.Context(), &ssm.ListTagsForResourceInput{ResourceId: &name, ResourceType: types.ResourceTypeForTaggingParameter})
			noError(t, err)
			got := map[string]string{}
			for _, tag := range out.TagList {
				got[deref(tag.Key)] = deref(tag.Value)
			}
			equal(t, "TagList", got, map[string]string{"a": "1", "b": "2"})

			_, err = e.AddTagsToResource(t.Context(), &ssm.AddTagsToResourceInput{ResourceId: aws.String(e.name("missing")), ResourceType: types.ResourceTypeForTaggingParameter, Tags: []types.Tag{}})
			wantCode(t, err, "InvalidResourceId")
			_, err = e.AddTagsToResource(t.Context(), &ssm.AddTagsToResourceInput{ResourceId: &name, ResourceType: "Bucket", Tags: []types.Tag{}})
			wantCode(t, err, "InvalidResourceType")
		},
	},
	{
		name: "DescribeParameters shows metadata and no value",
		aws: func(t *testing.T, e *endpoint) {
			name := e.put("a", "one", types.ParameterTypeSecureString)
			e.overwrite(name, "two")
			e.put("b", "three", types.ParameterTypeString)
			out, err := e.DescribeParameters(t.Context(), &ssm.DescribeParametersInput{ParameterFilters: []types.ParameterStringFilter{{Key: aws.String("Name"), Option: aws.String("Equals"), Values: []string{name}}}})
			noError(t, err)
			equal(t, "found", len(out.Parameters), 1)
			p := out.Parameters[0]
			equal(t, "Name", deref(p.Name), name)
			equal(t, "Version", p.Version, 2)
			equal(t, "Type", p.Type, types.ParameterTypeSecureString)
			equal(t, "Tier", p.Tier, types.ParameterTierStandard)
			equal(t, "KeyId", deref(p.KeyId), "alias/aws/ssm")

			both, err := e.DescribeParameters(t.Context(), &ssm.DescribeParametersInput{ParameterFilters: []types.ParameterStringFilter{{Key: aws.String("Name"), Option: aws.String("BeginsWith"), Values: []string{e.name("")}}}})
			noError(t, err)
			equal(t, "found", len(both.Parameters), 2)
		},
	},
	{
		name:   "a reference reads the current version of a secret",
		source: "the user guide's page on references to Secrets Manager shows the answer",
		aws: func(t *testing.T, e *endpoint) {
			e.putSecret(t, e.id, "one")
			current := e.putSecret(t, e.id, "two")
			name := "/aws/reference/secretsmanager/" + e.id
			p := e.get(name, true)
			equal(t, "Name", deref(p.Name), name)
			equal(t, "Value", deref(p.Value), "two")
			equal(t, "Type", p.Type, types.ParameterTypeSecureString)
			equal(t, "Version", p.Version, 0)
			wantPrefix(t, "ARN", deref(p.ARN), "arn:aws:secretsmanager:us-east-1:123456789012:secret:"+e.id+"-")
			source := sourceResult(t, p)
			equal(t, "ARN", source.ARN, deref(p.ARN))
			equal(t, "Name", source.Name, e.id)
			equal(t, "VersionID", source.VersionID, current)
			equal(t, "VersionStages", source.VersionStages, []string{"AWSCURRENT"})
			equal(t, "SecretString", source.SecretString, "two")
		},
		moto: deviation{"the answer has the secret's bare name and an ARN of SSM; SourceResult is DescribeSecret's, without VersionId or value", func(t *testing.T, e *endpoint) {
			e.putSecret(t, e.id, "one")
			e.putSecret(t, e.id, "two")
			p := e.get("/aws/reference/secretsmanager/"+e.id, true)
			equal(t, "Name", deref(p.Name), e.id)
			equal(t, "Value", deref(p.Value), "two")
			equal(t, "Version", p.Version, 0)
			wantPrefix(t, "ARN", deref(p.ARN), "arn:aws:ssm:")
			source := sourceResult(t, p)
			equal(t, "Name", source.Name, e.id)
			equal(t, "VersionID", source.VersionID, "")
		}},
		localstack: deviation{"the answer has no ARN of its own, and its SourceResult has no value", func(t *testing.T, e *endpoint) {
			e.putSecret(t, e.id, "one")
			current := e.putSecret(t, e.id, "two")
			name := "/aws/reference/secretsmanager/" + e.id
			p := e.get(name, true)
			equal(t, "Name", deref(p.Name), name)
			equal(t, "Value", deref(p.Value), "two")
			equal(t, "Version", p.Version, 0)
			equal(t, "ARN", deref(p.ARN), "")
			source := sourceResult(t, p)
			wantPrefix(t, "ARN", source.ARN, "arn:aws:secretsmanager:us-east-1:123456789012:secret:"+e.id+"-")
			equal(t, "VersionID", source.VersionID, current)
		}},
	},
	{
		name:   "a reference reads a secret by stage and by version",
		source: "the user guide's page on references to Secrets Manager",
		aws: func(t *testing.T, e *endpoint) {
			previous := e.putSecret(t, e.id, "one")
			e.putSecret(t, e.id, "two")
			name := "/aws/reference/secretsmanager/" + e.id
			for _, selector := range []string{":AWSPREVIOUS", ":" + previous} {
				p := e.get(name+selector, true)
				equal(t, "Value", deref(p.Value), "one")
				equal(t, "Name", deref(p.Name), name)
				equal(t, "VersionID", sourceResult(t, p).VersionID, previous)
			}
		},
		moto: deviation{"the answer has the secret's bare name, and SourceResult no VersionId", func(t *testing.T, e *endpoint) {
			previous := e.putSecret(t, e.id, "one")
			e.putSecret(t, e.id, "two")
			for _, selector := range []string{":AWSPREVIOUS", ":" + previous} {
				p := e.get("/aws/reference/secretsmanager/"+e.id+selector, true)
				equal(t, "Value", deref(p.Value), "one")
				equal(t, "Name", deref(p.Name), e.id)
			}
		}},
		localstack: deviation{"a selector is taken for a part of the secret's name, which is an internal error", func(t *testing.T, e *endpoint) {
			e.putSecret(t, e.id, "one")
			name := "/aws/reference/secretsmanager/" + e.id + ":AWSCURRENT"
			_, err := e.GetParameter(t.Context(), &ssm.GetParameterInput{Name: &name, WithDecryption: aws.Bool(true)})
			wantCode(t, err, "InternalError")
		}},
	},
	{
		name:   "a reference is read with decryption only",
		source: "its answer stands in sous-chefs/aws, issue 419",
		aws: func(t *testing.T, e *endpoint) {
			e.putSecret(t, e.id, "one")
			name := "/aws/reference/secretsmanager/" + e.id
			_, err := e.GetParameter(t.Context(), &ssm.GetParameterInput{Name: &name})
			wantError(t, err, "ValidationException", "WithDecryption flag must be True for retrieving a Secret Manager secret.")
			_, err = e.GetParameters(t.Context(), &ssm.GetParametersInput{Names: []string{name}})
			wantCode(t, err, "ValidationException")
		},
		moto: deviation{"GetParameters shows the plaintext of a secret, behind the name of a key", func(t *testing.T, e *endpoint) {
			e.putSecret(t, e.id, "one")
			name := "/aws/reference/secretsmanager/" + e.id
			_, err := e.GetParameter(t.Context(), &ssm.GetParameterInput{Name: &name})
			wantError(t, err, "ValidationException", "WithDecryption flag must be True for retrieving a Secret Manager secret.")
			equal(t, "Parameters", values(e.getAll(false, name)), map[string]string{e.id: "kms:alias/aws/ssm:one"})
		}},
		localstack: deviation{"a secret is shown without decryption", func(t *testing.T, e *endpoint) {
			e.putSecret(t, e.id, "one")
			name := "/aws/reference/secretsmanager/" + e.id
			equal(t, "Value", deref(e.get(name, false).Value), "one")
			equal(t, "Parameters", values(e.getAll(false, name)), map[string]string{name: "one"})
		}},
	},
	{
		name: "a reference to an unknown secret",
		aws: func(t *testing.T, e *endpoint) {
			name := "/aws/reference/secretsmanager/missing-" + e.id
			_, err := e.GetParameter(t.Context(), &ssm.GetParameterInput{Name: &name, WithDecryption: aws.Bool(true)})
			wantError(t, err, "ParameterNotFound", "An error occurred (ParameterNotFound) when referencing Secrets Manager: Secret "+name+" not found.")
		},
	},
	{
		name:   "GetParameters reads parameters and references together",
		source: "GetParameters has InvalidParameters, and decrypts if WithDecryption says so",
		aws: func(t *testing.T, e *endpoint) {
			e.putSecret(t, e.id, "secret")
			reference := "/aws/reference/secretsmanager/" + e.id
			name := e.put("key", "value", types.ParameterTypeSecureString)
			out := e.getAll(true, name, reference, reference+"-missing")
			equal(t, "Parameters", values(out), map[string]string{name: "value", reference: "secret"})
			equal(t, "InvalidParameters", out.InvalidParameters, []string{reference + "-missing"})
		},
		moto: deviation{"an unknown secret fails the whole call, and the answer has the secret's bare name", func(t *testing.T, e *endpoint) {
			e.putSecret(t, e.id, "secret")
			reference := "/aws/reference/secretsmanager/" + e.id
			name := e.put("key", "value", types.ParameterTypeSecureString)
			equal(t, "Parameters", values(e.getAll(true, name, reference)), map[string]string{name: "value", e.id: "secret"})
			_, err := e.GetParameters(t.Context(), &ssm.GetParametersInput{Names: []string{name, reference + "-missing"}, WithDecryption: aws.Bool(true)})
			wantCode(t, err, "ParameterNotFound")
		}},
		localstack: deviation{"with a reference among the names, parameters are not decrypted", func(t *testing.T, e *endpoint) {
			e.putSecret(t, e.id, "secret")
			reference := "/aws/reference/secretsmanager/" + e.id
			name := e.put("key", "value", types.ParameterTypeSecureString)
			out := e.getAll(true, name, reference, reference+"-missing")
			equal(t, "Parameters", values(out), map[string]string{name: "kms:alias/aws/ssm:value", reference: "secret"})
			equal(t, "InvalidParameters", out.InvalidParameters, []string{reference + "-missing"})
		}},
	},
	{
		name:   "an unknown action",
		source: "the API reference's common errors, in AWS JSON 1.1",
		aws: func(t *testing.T, e *endpoint) {
			status, body := e.post(t, "AmazonSSM.GetEverything", authorization, "{}")
			equal(t, "status", status, http.StatusBadRequest)
			equal(t, "body", strings.TrimSpace(body), `{"__type":"UnknownOperationException"}`)
		},
		moto: deviation{"an unknown action is an internal error, in HTML", func(t *testing.T, e *endpoint) {
			status, body := e.post(t, "AmazonSSM.GetEverything", authorization, "{}")
			equal(t, "status", status, http.StatusInternalServerError)
			wantPrefix(t, "body", body, "<!doctype html>")
		}},
		localstack: deviation{"an unknown action is an internal error", func(t *testing.T, e *endpoint) {
			status, body := e.post(t, "AmazonSSM.GetEverything", authorization, "{}")
			equal(t, "status", status, http.StatusInternalServerError)
			wantPrefix(t, "body", body, `{"__type": "InternalError"`)
		}},
	},
	{
		name:   "a request without Authorization",
		source: "the API reference's common errors",
		aws: func(t *testing.T, e *endpoint) {
			status, body := e.post(t, "AmazonSSM.GetParameter", "", `{"Name":"x"}`)
			equal(t, "status", status, http.StatusBadRequest)
			equal(t, "body", strings.TrimSpace(body), `{"__type":"MissingAuthenticationTokenException","message":"Missing Authentication Token"}`)
		},
		moto: deviation{"the header is what tells services apart: without it, S3 answers", func(t *testing.T, e *endpoint) {
			status, body := e.post(t, "AmazonSSM.GetParameter", "", `{"Name":"x"}`)
			equal(t, "status", status, http.StatusOK)
			wantMessage(t, errors.New(body), "ListAllMyBucketsResult")
		}},
		localstack: deviation{"a request is answered without a signature", func(t *testing.T, e *endpoint) {
			_, body := e.post(t, "AmazonSSM.GetParameter", "", `{"Name":"x"}`)
			wantPrefix(t, "body", body, `{"__type": "ParameterNotFound"`)
		}},
	},
	{
		name:   "a signature for another Region",
		source: "the general reference: each Region has an endpoint; the words are in aws-sdk-ruby, issue 508",
		aws: func(t *testing.T, e *endpoint) {
			name := e.put("key", "value", types.ParameterTypeString)
			_, err := newClient(e.url, "eu-west-1").GetParameter(t.Context(), &ssm.GetParameterInput{Name: &name})
			wantPrefix(t, "message", wantCode(t, err, "InvalidSignatureException"), "Credential should be scoped to a valid region")
		},
		others: deviation{"one endpoint is every Region's", func(t *testing.T, e *endpoint) {
			name := e.name("key")
			_, err := newClient(e.url, "eu-west-1").GetParameter(t.Context(), &ssm.GetParameterInput{Name: &name})
			wantCode(t, err, "ParameterNotFound")
		}},
	},
}

const (
	badName = `Parameter name: can't be prefixed with "ssm" (case-insensitive). If formed as a path, it can consist of sub-paths divided by slash symbol; each sub-path can be formed as a mix of letters, numbers and the following 3 symbols .-_`
	account = awsemulator.Account
)

var authorization = awsemulator.Authorization("us-east-1", "ssm")

// endpoint is the SDK's client with names that no other case has.
type endpoint struct {
	*ssm.Client
	services
	t   *testing.T
	id  string
	url string
}

func newEndpoint(t *testing.T, url string, beside services) *endpoint {
	return &endpoint{Client: newClient(url, "us-east-1"), services: beside, t: t, id: "c" + strings.ToLower(rand.Text()), url: url}
}

// newClient returns the SDK's client without its retries, which would hide what was answered.
func newClient(url, region string) *ssm.Client {
	return ssm.New(ssm.Options{
		Region:       region,
		BaseEndpoint: &url,
		Retryer:      aws.NopRetryer{},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: awsemulator.AccessKey, SecretAccessKey: "local"}, nil
		}),
	})
}

func (e *endpoint) name(leaf string) string { return "/" + e.id + "/" + leaf }

func (e *endpoint) arn(name string) string {
	return "arn:aws:ssm:us-east-1:123456789012:parameter/" + strings.TrimPrefix(name, "/")
}

func (e *endpoint) mustPut(in *ssm.PutParameterInput) *ssm.PutParameterOutput {
	e.t.Helper()
	out, err := e.PutParameter(e.t.Context(), in)
	noError(e.t, err)
	return out
}

func (e *endpoint) put(leaf, value string, kind types.ParameterType) (name string) {
	e.t.Helper()
	e.putNamed(e.name(leaf), value, kind)
	return e.name(leaf)
}

func (e *endpoint) putNamed(name, value string, kind types.ParameterType) {
	e.t.Helper()
	e.mustPut(&ssm.PutParameterInput{Name: &name, Value: &value, Type: kind})
}

func (e *endpoint) overwrite(name, value string) (version int64) {
	e.t.Helper()
	return e.mustPut(&ssm.PutParameterInput{Name: &name, Value: &value, Overwrite: aws.Bool(true)}).Version
}

func (e *endpoint) versionsOneAndTwo() (name string) {
	e.t.Helper()
	name = e.put("key", "one", types.ParameterTypeString)
	e.overwrite(name, "two")
	return name
}

func (e *endpoint) get(name string, withDecryption bool) *types.Parameter {
	e.t.Helper()
	out, err := e.GetParameter(e.t.Context(), &ssm.GetParameterInput{Name: &name, WithDecryption: &withDecryption})
	noError(e.t, err)
	return out.Parameter
}

func (e *endpoint) getAll(withDecryption bool, names ...string) *ssm.GetParametersOutput {
	e.t.Helper()
	out, err := e.GetParameters(e.t.Context(), &ssm.GetParametersInput{Names: append([]string{}, names...), WithDecryption: &withDecryption})
	noError(e.t, err)
	return out
}

func (e *endpoint) label(name string, version int64, labels ...string) {
	e.t.Helper()
	out, err := e.LabelParameterVersion(e.t.Context(), &ssm.LabelParameterVersionInput{Name: &name, ParameterVersion: &version, Labels: labels})
	noError(e.t, err)
	equal(e.t, "InvalidLabels", len(out.InvalidLabels), 0)
}

// post sends what the SDK would not.
func (e *endpoint) post(t *testing.T, target, authorization, body string) (status int, answer string) {
	t.Helper()
	return awsemulator.Post(t, e.url, target, authorization, body)
}

// services is what a case needs beside SSM.
type services interface {
	// putSecret stores a secret's next version and returns its id.
	putSecret(t *testing.T, id, value string) (versionID string)
	createKMSKey(t *testing.T, alias string) (id string)
	disableKMSKey(t *testing.T, id, alias string)
}

type localServices struct{ server *localssm.Server }

func (s localServices) putSecret(_ *testing.T, id, value string) string {
	return s.server.PutSecret(id, value)
}
func (s localServices) createKMSKey(_ *testing.T, alias string) string {
	return s.server.CreateKMSKey(alias)
}
func (s localServices) disableKMSKey(_ *testing.T, _, alias string) { s.server.DisableKMSKey(alias) }

type remoteServices struct{ awsemulator.Services }

func (s remoteServices) putSecret(t *testing.T, id, value string) string {
	t.Helper()
	return s.PutSecret(t, id, value)
}

func (s remoteServices) createKMSKey(t *testing.T, alias string) string {
	t.Helper()
	return s.CreateKMSKey(t, alias)
}

func (s remoteServices) disableKMSKey(t *testing.T, id, _ string) {
	t.Helper()
	s.DisableKMSKey(t, id)
}

func withPolicy(name string, tier types.ParameterTier) *ssm.PutParameterInput {
	return &ssm.PutParameterInput{
		Name: &name, Value: aws.String("value"), Type: types.ParameterTypeString, Tier: tier,
		Policies: aws.String(`[{"Type":"NoChangeNotification","Version":"1.0","Attributes":{"After":"20","Unit":"Days"}}]`),
	}
}

func withKey(name, key string) *ssm.PutParameterInput {
	return &ssm.PutParameterInput{Name: &name, Value: aws.String("value"), Type: types.ParameterTypeSecureString, KeyId: &key}
}

func sized(name string, size int, tier types.ParameterTier) *ssm.PutParameterInput {
	return &ssm.PutParameterInput{
		Name: &name, Value: aws.String(strings.Repeat("x", size)), Type: types.ParameterTypeSecureString, Tier: tier, Overwrite: aws.Bool(true),
	}
}

type source struct {
	ARN           string
	Name          string
	VersionID     string
	VersionStages []string
	SecretString  string
}

func sourceResult(t *testing.T, p *types.Parameter) (out source) {
	t.Helper()
	noError(t, json.Unmarshal([]byte(deref(p.SourceResult)), &out))
	return out
}

func values(out *ssm.GetParametersOutput) map[string]string {
	got := map[string]string{}
	for _, p := range out.Parameters {
		got[deref(p.Name)] = deref(p.Value)
	}
	return got
}

func deref(s *string) string { return aws.ToString(s) }
