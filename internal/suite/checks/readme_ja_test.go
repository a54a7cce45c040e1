package checks

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/internal/tools/testenv"
)

// README.ja.md is README.md in Japanese: the same commands and programs, the same settings with the same
// defaults, links to the same pages, sections in the same order. Only what is prose differs.
func TestREADME_JapaneseSaysTheSame(t *testing.T) {
	for _, difference := range differences(testenv.Read(t, "../../../README.md"), testenv.Read(t, "../../../README.ja.md")) {
		t.Error(difference)
	}
}

func TestREADME_DifferenceIsFound(t *testing.T) {
	english, japanese := testenv.Read(t, "../../../README.md"), testenv.Read(t, "../../../README.ja.md")
	for _, tc := range []struct{ old, new, want string }{
		{"    make demo\n", "    make demonstration\n", "code"},
		{"defer db.Close()", "db.Close()", "code"},
		{"    make rotate ", "    make rotation ", "code"},
		{"| `false` |", "| `true` |", "setting"},
		{"| `--verify` |", "| `--verified` |", "setting"},
		{"`config.toml`", "`connection.toml`", "setting"},
		{"(docs/rotation.md)", "(docs/rotations.md)", "links"},
		{"\n## ", "\n### ", "sections"},
	} {
		if !strings.Contains(japanese, tc.old) {
			t.Fatalf("README.ja.md has no %q", tc.old)
		}
		found := differences(english, strings.Replace(japanese, tc.old, tc.new, 1))
		if !strings.Contains(strings.Join(found, "\n"), tc.want) {
			t.Errorf("%q for %q: not noticed, but %q", tc.new, tc.old, found)
		}
	}
}

func differences(english, japanese string) []string {
	var all []string
	for _, part := range []struct {
		name string
		of   func(string) []string
	}{
		{"code", codeBlocks}, {"setting", settingRows}, {"links", links}, {"sections", sections},
	} {
		a, b := part.of(english), part.of(japanese)
		if len(a) == 0 {
			all = append(all, "README.md has no "+part.name)
		}
		if slices.Equal(a, b) {
			continue
		}
		for i := range max(len(a), len(b)) {
			if x, y := at(a, i), at(b, i); x != y {
				all = append(all, part.name+" of README.ja.md has\n"+y+"\nwhere README.md has\n"+x)
				break
			}
		}
	}
	return all
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return "(nothing)"
}

var comment = regexp.MustCompile(` +# .*$`)

// codeBlocks are those between fences, and each indented line without its comment. The words in a picture are translated.
func codeBlocks(text string) []string {
	var all []string
	fence := ""
	for line := range strings.SplitSeq(text, "\n") {
		switch {
		case strings.HasPrefix(line, "```") && fence == "":
			fence = line
		case strings.HasPrefix(line, "```"):
			fence = ""
		case fence == "" && strings.HasPrefix(line, "    "):
			line = comment.ReplaceAllString(line, "")
		case fence == "", fence == "```mermaid":
			continue
		}
		all = append(all, line)
	}
	return all
}

var codeSpan = regexp.MustCompile("`[^`]+`")

// settingRows have flag, variable and default as they are, and of the meaning what is code.
func settingRows(text string) []string {
	var all []string
	_, rest, _ := strings.Cut(text, "<!-- settings:")
	table, _, _ := strings.Cut(rest, "<!-- end of settings -->")
	for line := range strings.SplitSeq(table, "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 6 || !strings.Contains(line, "`") {
			continue
		}
		meaning := codeSpan.FindAllString(cells[4], -1)
		all = append(all, strings.Join(cells[1:4], "|")+strings.Join(meaning, " "))
	}
	return all
}

var link = regexp.MustCompile(`\]\(([^)]+)\)`)

// links are without those from one README to the other. A translation can name the same pages in another
// order.
func links(text string) []string {
	var all []string
	for _, m := range link.FindAllStringSubmatch(text, -1) {
		if !strings.HasPrefix(m[1], "README.") {
			all = append(all, m[1])
		}
	}
	slices.Sort(all)
	return all
}

// sections have the level of each heading.
func sections(text string) []string {
	var all []string
	fenced := false
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		if level, _, ok := strings.Cut(line, " "); ok && !fenced && level != "" && strings.Trim(level, "#") == "" {
			all = append(all, level)
		}
	}
	return all
}
