package taskdef

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Terraform itself checks arguments with the provider, which it downloads and runs. Where it cannot, the TypeScript that was
// generated from the provider's schema has the names, and says which are required: make test-taskdef fetches that and
// names the directory in PROVIDER_TYPES.
func TestTerraform_UsesArgumentsThatTheProviderHas(t *testing.T) {
	types := providerTypes(t)
	wrong, err := types.wrong(examples, "terraform")
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range wrong {
		t.Error(w)
	}
	for _, tc := range []struct {
		change
		want string
	}{
		{change{"terraform/main.tf", `enable_key_rotation`, `enable_rotation`}, "enable_rotation"},
		{change{"terraform/main.tf", `assume_role_policy = jsonencode(local.trust)`, ``}, "assume_role_policy"},
		{change{"terraform/main.tf", `deployment_circuit_breaker {`, `deployment_breaker {`}, "deployment_breaker"},
		{change{"terraform/main.tf", `rollback = true`, `roll_back = true`}, "roll_back"},
		{change{"terraform/main.tf", `security_groups  =`, `groups =`}, "groups"},
		{change{"terraform/main.tf", `task_role_arn            = aws_iam_role.task.arn`, `task_role_arn = aws_iam_role.task.name_arn`}, "name_arn"},
		{change{"terraform/main.tf", `aws_kms_key" "parameters"`, `aws_kms_keys" "parameters"`}, "aws_kms_keys"},
		{change{"terraform/rotation.tf", `maximum_retry_attempts `, `maximum_retries `}, "maximum_retries"},
		{change{"terraform/rotation.tf", `flexible_time_window {`, `time_window {`}, "required: flexible_time_window"},
		{change{"terraform/rotation.tf", `aws_iam_role.rotate_scheduler[0].arn`, `aws_iam_role.rotate_scheduler[0].name_arn`}, "name_arn"},
		{change{"terraform/alarms.tf", `metric_transformation {`, `transformation {`}, "required: metric_transformation"},
	} {
		wrong, err := types.wrong(changed(t, tc.change), "terraform")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.Join(wrong, "\n"), tc.want) {
			t.Errorf("%s: not noticed, but %q", tc.new, wrong)
		}
	}
}

// What is checked is what users get: that version of the provider or a newer one of the same major.
func TestTerraform_RequiresTheProviderThatIsChecked(t *testing.T) {
	types := providerTypes(t)
	version, err := types.version()
	if err != nil {
		t.Fatal(err)
	}
	text, err := fs.ReadFile(examples, "terraform/versions.tf")
	if err != nil {
		t.Fatal(err)
	}
	minor := version[:strings.LastIndex(version, ".")]
	if want := fmt.Sprintf("version = %q", "~> "+minor); !strings.Contains(string(text), want) {
		t.Errorf("versions.tf does not have %s, and %s is checked", want, version)
	}
}

// A provider is the directory of its types.
type provider string

func providerTypes(t *testing.T) provider {
	t.Helper()
	dir := os.Getenv("PROVIDER_TYPES")
	if dir == "" {
		t.Skip("PROVIDER_TYPES is not set: make test-taskdef sets it")
	}
	return provider(dir)
}

// version is that of the provider from whose schema the types were made.
func (p provider) version() (string, error) {
	text, err := os.ReadFile(filepath.Join(string(p), "package.json"))
	if err != nil {
		return "", err
	}
	var made struct {
		CDKTF struct {
			Provider struct{ Version string }
		}
	}
	if err := json.Unmarshal(text, &made); err != nil {
		return "", err
	}
	if strings.Count(made.CDKTF.Provider.Version, ".") != 2 {
		return "", fmt.Errorf("package.json has the version %q", made.CDKTF.Provider.Version)
	}
	return made.CDKTF.Provider.Version, nil
}

// wrong is every argument, block and attribute that the provider does not have, or asks for in vain.
func (p provider) wrong(examples fs.FS, dir string) ([]string, error) {
	blocks, err := terraformBlocks(examples, dir)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, b := range blocks {
		var kind string
		switch b.Type {
		case "resource":
			kind = b.Labels[0]
		case "data":
			kind = "data_" + b.Labels[0]
		default:
			all = append(all, p.unknownAttributes(b.Body)...)
			continue
		}
		text, err := p.text(kind)
		if err != nil {
			all = append(all, "no such type: "+kind)
			continue
		}
		all = append(all, wrongIn(text, pascal(strings.TrimPrefix(kind, "aws_"))+"Config", kind, b.Body)...)
		if b.Type == "data" {
			continue
		}
		all = append(all, p.unknownAttributes(b.Body)...)
	}
	return all, nil
}

func (p provider) text(kind string) (string, error) {
	directory := strings.ReplaceAll(strings.TrimPrefix(kind, "aws_"), "_", "-")
	text, err := os.ReadFile(filepath.Join(string(p), directory, "index.d.ts"))
	return string(text), err
}

// unknownAttributes are those that expressions read of resources and data sources.
func (p provider) unknownAttributes(body *hclsyntax.Body) []string {
	var all []string
	for _, used := range traversals(body) {
		names := slices.DeleteFunc(strings.Split(used, "."), func(n string) bool { return n == "0" })
		if names[0] == "data" {
			names = append([]string{"data_" + names[1]}, names[2:]...)
		}
		if !strings.Contains(names[0], "aws_") {
			continue
		}
		text, err := p.text(names[0])
		if err != nil || !strings.Contains(text, "get "+camel(names[2])+"():") {
			all = append(all, used+": no such attribute")
		}
	}
	return all
}

var meta = []string{"depends_on", "lifecycle", "count", "for_each", "provider", "provisioner", "connection"}

func wrongIn(text, typeName, where string, body *hclsyntax.Body) []string {
	fields, err := interfaceFields(text, typeName)
	if err != nil {
		return []string{where + ": " + err.Error()}
	}
	var all []string
	given := slices.Collect(maps.Keys(body.Attributes))
	for _, b := range body.Blocks {
		given = append(given, b.Type)
	}
	for _, name := range given {
		if _, ok := fields[camel(name)]; !ok && !slices.Contains(meta, name) {
			all = append(all, where+": no such argument: "+name)
		}
	}
	for name, f := range fields {
		if f.required && !slices.ContainsFunc(given, func(g string) bool { return camel(g) == name }) {
			all = append(all, where+": required: "+strings.ToLower(capital.ReplaceAllString(name, "_$0")))
		}
	}
	for _, b := range body.Blocks {
		if f, ok := fields[camel(b.Type)]; ok {
			all = append(all, wrongIn(text, f.typeName, where+"."+b.Type, b.Body)...)
		}
	}
	return all
}

type field struct {
	typeName string
	required bool
}

var fieldLine = regexp.MustCompile(`(?m)^    readonly (\w+)(\??): (\w*)`)

func interfaceFields(text, typeName string) (map[string]field, error) {
	_, rest, ok := strings.Cut(text, "export interface "+typeName+" ")
	body, _, ok2 := strings.Cut(rest, "\n}")
	if !ok || !ok2 {
		return nil, fmt.Errorf("no type %s", typeName)
	}
	fields := map[string]field{}
	for _, m := range fieldLine.FindAllStringSubmatch(body, -1) {
		fields[m[1]] = field{typeName: m[3], required: m[2] == ""}
	}
	return fields, nil
}

var capital = regexp.MustCompile(`[A-Z]`)
