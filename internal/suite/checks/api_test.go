package checks

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/internal/tools/testenv"
)

var update = flag.Bool("update", false, "write testdata/api.txt")

// The exported API of shared is a promise to other people's programs. A change of it is meant if testdata/api.txt changes
// with it: go test ./internal/suite/checks -run TestAPI -update
func TestAPI_IsAsListed(t *testing.T) {
	const list = "testdata/api.txt"
	got := exportedAPI(t, "../../../shared")
	if *update {
		if err := os.WriteFile(list, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want := testenv.Read(t, list)
	if got == want {
		return
	}
	t.Errorf("the API of shared is not as %s lists it", list)
	was, is := strings.Split(want, "\n"), strings.Split(got, "\n")
	for _, line := range was {
		if !slices.Contains(is, line) {
			t.Log("only in the list:", line)
		}
	}
	for _, line := range is {
		if !slices.Contains(was, line) {
			t.Log("only in the packages:", line)
		}
	}
}

// exportedAPI returns the exported declarations of the packages below root, sorted, without comments and without the values
// of variables.
func exportedAPI(t *testing.T, root string) string {
	t.Helper()
	decls := map[string][]string{} // by package
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(filepath.Dir(strings.TrimPrefix(path, root)))
		ast.FileExports(file)
		for _, decl := range file.Decls {
			if !promised(decl) {
				continue
			}
			var text strings.Builder
			if err := gofmt.Fprint(&text, set, decl); err != nil {
				return err
			}
			decls[pkg] = append(decls[pkg], text.String())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var api strings.Builder
	for _, pkg := range slices.Sorted(maps.Keys(decls)) {
		api.WriteString("package shared" + pkg + "\n\n")
		slices.Sort(decls[pkg])
		api.WriteString(strings.Join(decls[pkg], "\n") + "\n\n")
	}
	return api.String()
}

var gofmt = printer.Config{Mode: printer.UseSpaces | printer.TabIndent, Tabwidth: 8}

// promised reports whether a declaration is of the API, and removes from it what is not.
func promised(decl ast.Decl) bool {
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		decl.Body = nil
		return decl.Recv == nil || ast.IsExported(receiver(decl))
	case *ast.GenDecl:
		for _, spec := range decl.Specs {
			if v, ok := spec.(*ast.ValueSpec); ok && decl.Tok == token.VAR {
				v.Values = nil
			}
		}
		return decl.Tok != token.IMPORT
	default:
		return false
	}
}

// receiver returns the name of a method's type.
func receiver(method *ast.FuncDecl) string {
	of := method.Recv.List[0].Type
	if pointer, ok := of.(*ast.StarExpr); ok {
		of = pointer.X
	}
	name, ok := of.(*ast.Ident)
	if !ok {
		return ""
	}
	return name.Name
}
