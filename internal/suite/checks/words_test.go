package checks

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/internal/tools/testenv"
)

const glossary = "docs/glossary.md"

// exempt are the files that may have words that the glossary says not to use, and why.
var exempt = map[string]string{
	"CHANGELOG.md":                        "it says what was renamed",
	glossary:                              "it lists them",
	"internal/suite/checks/words_test.go": "it tests this check with them",
}

func TestWords_OldOnesStayAway(t *testing.T) {
	words, err := oldWords(testenv.Read(t, "../../../"+glossary))
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range texts(t) {
		if exempt[path] != "" {
			continue
		}
		for _, found := range findWords(words, text) {
			t.Errorf("%s:%s: %s has the word to use", path, found, glossary)
		}
	}
}

func TestWords_LookIsRare(t *testing.T) {
	looks, lines := 0, 0
	for path, text := range texts(t) {
		if ext := filepath.Ext(path); ext == ".go" || ext == ".sh" {
			looks, lines = looks+countLooks(text), lines+strings.Count(text, "\n")
		}
	}
	if lines < 10_000 || looks*1000 >= lines {
		t.Errorf("%d times \"look\" in %d lines of code, want less than one in 1000: a refresh or a poll is one by name", looks, lines)
	}
}

func TestTestNames_BeginWithTheirSubject(t *testing.T) {
	var names []string
	for path, text := range texts(t) {
		if strings.HasSuffix(path, "_test.go") {
			names = append(names, testNames(text)...)
		}
	}
	others := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !beginsWithFiller(name) })
	if len(names) < 100 || len(others)*10 >= len(names) {
		t.Errorf("%d of %d test names begin with an article or a pronoun, want less than a tenth: %v", len(others), len(names), others)
	}
}

// An oldWord is a word or phrase that the glossary says not to use.
type oldWord struct {
	text    string
	pattern *regexp.Regexp
}

// oldWords reads the first column of the glossary's table of words not to use.
func oldWords(glossary string) (words []oldWord, err error) {
	const head = "| not | but |\n| --- | --- |\n"
	_, table, found := strings.Cut(glossary, head)
	if !found {
		return nil, errors.New("the glossary has no table that begins with " + strings.TrimSpace(head))
	}
	for row := range strings.Lines(table) {
		if !strings.HasPrefix(row, "| ") {
			break
		}
		not, _, _ := strings.Cut(strings.TrimPrefix(row, "| "), " |")
		for _, text := range strings.Split(not, ", ") {
			text = strings.Trim(text, "` ")
			if len(text) < 4 {
				return nil, fmt.Errorf("%q is too short to search for", text)
			}
			words = append(words, oldWord{text, regexp.MustCompile(patternOf(text))})
		}
	}
	if len(words) == 0 {
		return nil, errors.New("the glossary's table of words not to use is empty")
	}
	return words, nil
}

// patternOf finds an identifier, which has _ or capitals in it, wherever it is; a word as a whole word, also as a part of a
// name such as newKeeper; and a phrase, also over a line break in a comment.
func patternOf(text string) string {
	if identifier.MatchString(text) {
		return regexp.QuoteMeta(text)
	}
	first, rest := text[:1], strings.Fields(text[1:])
	for i := range rest {
		rest[i] = regexp.QuoteMeta(rest[i])
	}
	begin := fmt.Sprintf("(?:(?:^|[^A-Za-z])[%s%s]|[a-z]%s)", first, strings.ToUpper(first), strings.ToUpper(first))
	return "(?m)" + begin + strings.Join(rest, "["+gap+"]+") + `(?:$|[^a-z])`
}

// gap is between the words of a phrase, also where a comment or a quotation goes on in the next line.
const gap = " \t\r\n/#*>"

var identifier = regexp.MustCompile(`_|[a-z][A-Z]`)

// findWords returns the line and the text of each old word in a text.
func findWords(words []oldWord, text string) (all []string) {
	flat := strings.ToLower(strings.Join(strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(gap, r) }), " "))
	for _, w := range words {
		if !strings.Contains(flat, strings.ToLower(w.text)) { // much faster than the expression
			continue
		}
		for _, at := range w.pattern.FindAllStringIndex(text, -1) {
			line := 1 + strings.Count(text[:at[1]-1], "\n")
			all = append(all, fmt.Sprintf("%d: %q", line, w.text))
		}
	}
	return all
}

// Other meanings of look are no old words: looking for or up a thing, what something looks like, and into a file.
var (
	look      = regexp.MustCompile(`(?i)\blook(?:s|ed|ing)?\b`)
	otherLook = regexp.MustCompile(`(?i)\blook(?:s|ed|ing)? (?:for|up|like|into)\b`)
)

func countLooks(text string) int {
	return len(look.FindAllString(text, -1)) - len(otherLook.FindAllString(text, -1))
}

var (
	testFunc = regexp.MustCompile(`(?m)^func Test([A-Z]\w*)\(`)
	filler   = regexp.MustCompile(`^(?:A|An|The|It|Its|They|Their|This|That|These|Those|He|She|We|You|Who|Whoever|What|Whatever|Which|` +
		`One|Somebody|Anybody|Everybody|Nobody|Something|Anything|Everything|Nothing|Each|Others)(?:[A-Z_0-9]|$)`)
)

// testNames returns the names of a file's tests, without Test.
func testNames(text string) (names []string) {
	for _, m := range testFunc.FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	return names
}

func beginsWithFiller(name string) bool { return filler.MatchString(name) }

// texts are the code and the documents of the repository, by path.
func texts(t *testing.T) map[string]string {
	t.Helper()
	kinds := []string{".go", ".sh", ".md", ".yml", ".yaml", ".tf", ".json", ".py", ".mjs", ".java", ".rs", ".cs"}
	all := map[string]string{}
	err := filepath.WalkDir("../../..", func(path string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{".git", ".cache", "bin", "dist", "licenses", "node_modules", "target", "testdata"}, name):
			return fs.SkipDir
		case d.Type().IsRegular() && (slices.Contains(kinds, filepath.Ext(name)) || name == "Makefile" || name == "Dockerfile"):
			path, err = filepath.Rel("../../..", path)
			all[filepath.ToSlash(path)] = testenv.Read(t, filepath.Join("../../..", path))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Bad input, so that these checks can fail.

func TestFindWords(t *testing.T) {
	const table = "# Glossary\n\n| not | but |\n| --- | --- |\n| look again, `what_to_do` | refresh |\n| keeper | daemon |\n\nwhoever\n"
	words, err := oldWords(table)
	if err != nil || len(words) != 3 {
		t.Fatalf("%v, %v", words, err)
	}
	for text, want := range map[string]string{
		"the keeper waits":               `1: "keeper"`,
		"Keeper keeps":                   `1: "keeper"`,
		"a\nnewKeeper(x)\n":              `2: "keeper"`,
		"keeperOf(x)":                    `1: "keeper"`,
		"a line\nkeeper\n":               `2: "keeper"`,
		"\t// it may look\n\t// again\n": `2: "look again"`,
		"Look again":                     `1: "look again"`,
		`"what_to_do": "retry"`:          `1: "what_to_do"`,
		"log_what_to_do_next":            `1: "what_to_do"`,
		"what to do; whoever":            "",
		"bookkeeper, keepers, look":      "",
	} {
		if got := strings.Join(findWords(words, text), " "); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestOldWords_MistakesInTheGlossary(t *testing.T) {
	for name, text := range map[string]string{
		"no table":     "# Glossary\n",
		"empty table":  "| not | but |\n| --- | --- |\n",
		"a short word": "| not | but |\n| --- | --- |\n| an | a |\n",
	} {
		if words, err := oldWords(text); err == nil {
			t.Errorf("%s: %v", name, words)
		}
	}
}

func TestCountLooks(t *testing.T) {
	if n := countLooks("// it looks once and looked twice\nfunc (x) look()\n// Look for it: it looks like one. lookup"); n != 3 {
		t.Errorf("%d, want 3", n)
	}
}

func TestTestNames_FillersAreNoticed(t *testing.T) {
	const text = "func TestTheKeyIsRead(t *testing.T) {\nfunc TestA(t *testing.T) {\nfunc TestKey_TheBad(t *testing.T) {\n" +
		"func TestItself(t *testing.T) {\nfunc helper() {\n"
	names := testNames(text)
	if got := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !beginsWithFiller(n) }); len(names) != 4 ||
		!slices.Equal(got, []string{"TheKeyIsRead", "A"}) {
		t.Errorf("%q of %q", got, names)
	}
}
