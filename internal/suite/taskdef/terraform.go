package taskdef

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// readTerraform evaluates the directory's expressions. Values that a plan would know only later, and variables without
// a default, stay as ${NAME}. A count is not read: every resource is there.
func readTerraform(examples fs.FS, dir string) (*Example, error) {
	blocks, err := terraformBlocks(examples, dir)
	if err != nil {
		return nil, err
	}
	scope, err := newScope(blocks)
	if err != nil {
		return nil, err
	}
	e := new(Example)
	for _, b := range blocks {
		if b.Type != "resource" {
			continue
		}
		if err := e.addResource(b, scope); err != nil {
			return nil, fmt.Errorf("%s: %w", strings.Join(b.Labels, "."), err)
		}
	}
	if len(e.Definitions) == 0 {
		return nil, errors.New("no task definition")
	}
	return e, nil
}

func terraformBlocks(examples fs.FS, dir string) (hclsyntax.Blocks, error) {
	files, err := fs.Glob(examples, path.Join(dir, "*.tf"))
	if err != nil {
		return nil, err
	}
	var blocks hclsyntax.Blocks
	for _, name := range files {
		text, err := fs.ReadFile(examples, name)
		if err != nil {
			return nil, err
		}
		file, problems := hclsyntax.ParseConfig(text, name, hcl.InitialPos)
		if problems.HasErrors() {
			return nil, problems
		}
		blocks = append(blocks, file.Body.(*hclsyntax.Body).Blocks...)
	}
	return blocks, nil
}

func (e *Example) addResource(b *hclsyntax.Block, scope *hcl.EvalContext) error {
	values, err := evaluate(b.Body, scope)
	if err != nil {
		return err
	}
	switch b.Labels[0] {
	case "aws_ecs_task_definition":
		properties, err := taskDefinition(b, values, scope)
		if err != nil {
			return err
		}
		return e.addDefinition(properties, "${"+address(b)+".arn}")
	case "aws_ecs_service":
		version, _ := values["platform_version"].(string)
		execute, _ := values["enable_execute_command"].(bool)
		e.Services = append(e.Services, Service{version, execute})
	case "aws_iam_role":
		document, _ := values["assume_role_policy"].(string)
		return e.addPolicy(json.RawMessage(document))
	case "aws_iam_role_policy":
		document, _ := values["policy"].(string)
		return e.addPolicy(json.RawMessage(document))
	case "aws_scheduler_schedule":
		nested, err := evaluateNested(b.Body, scope)
		if err != nil {
			return err
		}
		return e.addSchedule(scheduleOf(nested))
	case "aws_cloudwatch_log_metric_filter":
		nested, err := evaluateNested(b.Body, scope)
		if err != nil {
			return err
		}
		to := map[string]any{}
		transformation, _ := nested["metric_transformation"].(map[string]any)
		for name, value := range transformation {
			to["Metric"+pascal(name)] = value
		}
		group, _ := nested["log_group_name"].(string)
		pattern, _ := nested["pattern"].(string)
		return e.addFilter(group, pattern, []any{to})
	case "aws_cloudwatch_metric_alarm":
		properties := map[string]any{}
		for name, value := range values {
			properties[pascal(name)] = value
		}
		dimensions := []any{}
		of, _ := values["dimensions"].(map[string]any)
		for name, value := range of {
			dimensions = append(dimensions, map[string]any{"Name": name, "Value": value})
		}
		properties["Dimensions"] = dimensions
		e.Alarms = append(e.Alarms, alarm(properties))
	case "aws_kms_key", "aws_cloudwatch_log_group":
	default:
		return errors.New("this type is not read here")
	}
	return nil
}

// address is how others refer to a resource.
func address(b *hclsyntax.Block) string {
	name := strings.Join(b.Labels, ".")
	if b.Body.Attributes["count"] != nil {
		name += ".0"
	}
	return name
}

// scheduleOf gives the arguments of a schedule the names that they have in the API of EventBridge Scheduler.
func scheduleOf(values map[string]any) map[string]any {
	all := map[string]any{}
	for name, value := range values {
		inner, isBlock := value.(map[string]any)
		public, isBool := value.(bool)
		switch {
		case name == "network_configuration" && isBlock:
			value = map[string]any{"awsvpcConfiguration": scheduleOf(inner)}
		case name == "assign_public_ip" && isBool:
			value = map[bool]string{true: "ENABLED", false: "DISABLED"}[public]
		case isBlock:
			value = scheduleOf(inner)
		}
		all[pascal(name)] = value
	}
	return all
}

func taskDefinition(b *hclsyntax.Block, values map[string]any, scope *hcl.EvalContext) (any, error) {
	d := map[string]any{}
	for name, value := range values {
		d[camel(name)] = value
	}
	containers, _ := values["container_definitions"].(string)
	d["containerDefinitions"] = json.RawMessage(containers)
	var volumes []any
	for _, v := range b.Body.Blocks {
		volume, err := evaluate(v.Body, scope)
		if err != nil {
			return nil, err
		}
		if v.Type != "volume" || len(v.Body.Blocks) > 0 {
			return nil, fmt.Errorf("%s is not read here", v.Type)
		}
		volumes = append(volumes, volume)
	}
	if len(volumes) > 0 {
		d["volumes"] = volumes
	}
	return d, nil
}

func camel(snake string) string {
	words := strings.Split(snake, "_")
	for i, w := range words[1:] {
		words[i+1] = strings.ToUpper(w[:1]) + w[1:]
	}
	return strings.Join(words, "")
}

func pascal(snake string) string {
	c := camel(snake)
	return strings.ToUpper(c[:1]) + c[1:]
}

// evaluateNested gives a block's arguments, and each block in it as one of them.
func evaluateNested(body *hclsyntax.Body, scope *hcl.EvalContext) (map[string]any, error) {
	values, err := evaluate(body, scope)
	if err != nil {
		return nil, err
	}
	for _, b := range body.Blocks {
		if values[b.Type] != nil {
			return nil, fmt.Errorf("%s is there twice", b.Type)
		}
		if values[b.Type], err = evaluateNested(b.Body, scope); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// evaluate gives a block's own arguments, without those of the blocks in it.
func evaluate(body *hclsyntax.Body, scope *hcl.EvalContext) (map[string]any, error) {
	values := map[string]any{}
	for name, attribute := range body.Attributes {
		if name == "depends_on" || name == "count" {
			continue
		}
		value, problems := attribute.Expr.Value(scope)
		if problems.HasErrors() {
			return nil, problems
		}
		text, err := ctyjson.Marshal(value, value.Type())
		if err != nil {
			return nil, err
		}
		var plain any
		if err := json.Unmarshal(text, &plain); err != nil {
			return nil, err
		}
		values[name] = plain
	}
	return values, nil
}

// newScope knows var, local, and every name that an expression uses of a resource or a data source.
func newScope(blocks hclsyntax.Blocks) (*hcl.EvalContext, error) {
	scope := &hcl.EvalContext{
		Variables: placeholders(blocks),
		Functions: map[string]function.Function{"concat": stdlib.ConcatFunc, "jsonencode": stdlib.JSONEncodeFunc},
	}
	variables, locals := map[string]cty.Value{}, map[string]hclsyntax.Expression{}
	for _, b := range blocks {
		switch b.Type {
		case "variable":
			value, err := variable(b, scope)
			if err != nil {
				return nil, err
			}
			variables[b.Labels[0]] = value
		case "locals":
			for name, attribute := range b.Body.Attributes {
				locals[name] = attribute.Expr
			}
		}
	}
	scope.Variables["var"] = cty.ObjectVal(variables)
	return scope, addLocals(scope, locals)
}

// addLocals evaluates as many as it can with those before, until all are known.
func addLocals(scope *hcl.EvalContext, open map[string]hclsyntax.Expression) error {
	known := map[string]cty.Value{}
	for len(open) > 0 {
		var problems hcl.Diagnostics
		before := len(open)
		for _, name := range slices.Sorted(maps.Keys(open)) {
			scope.Variables["local"] = cty.ObjectVal(known)
			value, p := open[name].Value(scope)
			if p.HasErrors() {
				problems = append(problems, p...)
				continue
			}
			known[name] = value
			delete(open, name)
		}
		if len(open) == before {
			return problems
		}
	}
	scope.Variables["local"] = cty.ObjectVal(known)
	return nil
}

// variable gives a variable's default, if it is not one that switches something off: 0 or "".
func variable(b *hclsyntax.Block, scope *hcl.EvalContext) (cty.Value, error) {
	placeholder := cty.StringVal("${var." + b.Labels[0] + "}")
	if preset := b.Body.Attributes["default"]; preset != nil {
		value, problems := preset.Expr.Value(scope)
		switch {
		case problems.HasErrors():
			return value, problems
		case value.RawEquals(cty.NumberIntVal(0)):
			return cty.NumberIntVal(1), nil
		case value.RawEquals(cty.StringVal("")):
			return placeholder, nil
		}
		return value, nil
	}
	if _, list := b.Body.Attributes["type"].Expr.(*hclsyntax.FunctionCallExpr); list { // list(string)
		return cty.ListVal([]cty.Value{placeholder}), nil
	}
	return placeholder, nil
}

// placeholders has "${a.b.c}" for each a.b.c that is used and is neither var nor local.
func placeholders(blocks hclsyntax.Blocks) map[string]cty.Value {
	tree := map[string]any{}
	for _, b := range blocks {
		for _, used := range traversals(b.Body) {
			names := strings.Split(used, ".")
			if names[0] == "var" || names[0] == "local" {
				continue
			}
			at := tree
			for _, name := range names[:len(names)-1] {
				if at[name] == nil {
					at[name] = map[string]any{}
				}
				at = at[name].(map[string]any)
			}
			at[names[len(names)-1]] = "${" + used + "}"
		}
	}
	values := map[string]cty.Value{}
	for name, v := range tree {
		values[name] = value(v)
	}
	return values
}

func value(v any) cty.Value {
	text, leaf := v.(string)
	if leaf {
		return cty.StringVal(text)
	}
	children := v.(map[string]any)
	if first, counted := children["0"]; counted {
		return cty.TupleVal([]cty.Value{value(first)})
	}
	values := map[string]cty.Value{}
	for name, child := range children {
		values[name] = value(child)
	}
	return cty.ObjectVal(values)
}

func traversals(body *hclsyntax.Body) []string {
	var all []string
	for name, attribute := range body.Attributes {
		if name == "depends_on" || name == "type" {
			continue
		}
		for _, t := range attribute.Expr.Variables() {
			all = append(all, dotted(t))
		}
	}
	for _, b := range body.Blocks {
		all = append(all, traversals(b.Body)...)
	}
	return all
}

// dotted writes a traversal as a.b.0.c.
func dotted(t hcl.Traversal) string {
	names := []string{t.RootName()}
	for _, step := range t[1:] {
		switch step := step.(type) {
		case hcl.TraverseAttr:
			names = append(names, step.Name)
		case hcl.TraverseIndex:
			names = append(names, step.Key.AsBigFloat().String())
		}
	}
	return strings.Join(names, ".")
}
