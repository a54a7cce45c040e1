package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	skipLine    = regexp.MustCompile(`^skip  (.+?) \((.*)\)$`)
	summaryLine = regexp.MustCompile(`^\d+ checks: `)
)

// oneLineEach is doctor's text with a line for each check, in the order in which they are made.
func oneLineEach(text string) string {
	var order, lines []string
	for line := range strings.Lines(strings.ReplaceAll(allIsWell, "MEMORY", "ok    memory: ")) {
		order = append(order, checkOf(line))
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		fix, isFix := strings.CutPrefix(line, "      fix: ")
		skipped := skipLine.FindStringSubmatch(line)
		switch {
		case line == "" || summaryLine.MatchString(line):
		case isFix:
			lines[len(lines)-1] += "; " + fix
		case skipped != nil:
			names, key := strings.Split(skipped[1], ", "), ""
			if !slices.Contains(order, names[0]) {
				key, names = names[0]+", ", names[1:]
			}
			for _, name := range names {
				lines = append(lines, "skip  "+key+name+" ("+skipped[2]+")")
			}
		default:
			lines = append(lines, line)
		}
	}
	slices.SortStableFunc(lines, func(a, b string) int { return slices.Index(order, nameIn(a)) - slices.Index(order, nameIn(b)) })
	return strings.Join(lines, "\n")
}

// nameIn is the check of a line, which may also name a key.
func nameIn(line string) string {
	if found := regexp.MustCompile(`^\w+ +(?:[\w-]+, )?([a-z ]+?)(:| \()`).FindStringSubmatch(line); found != nil {
		return found[1]
	}
	return ""
}

func TestDoctor_PutsProblemsLastAndCountsThem(t *testing.T) {
	t.Parallel()
	k, account := examined(t)
	account.UnsetPublicKey("svc", 1)
	p := k.do("doctor")
	p.want(exitFailed)
	said := p.stdout.String()
	if strings.Contains(said, "\x1b") {
		t.Errorf("there is colour in a file:\n%s", said)
	}
	well, problems, found := strings.Cut(said, "\n\n")
	if !found || strings.Contains(well, "fail ") || strings.Contains(problems, "\nok ") || !strings.Contains(well, "skip  public key, key age, other slots, role (snowflake login failed)") {
		t.Errorf("it says\n%s", said)
	}
	if last := said[strings.LastIndex(strings.TrimSuffix(said, "\n"), "\n")+1:]; !strings.Contains(last, " checks: 1 failed, ") {
		t.Errorf("the last line is %q", last)
	}
	if !regexp.MustCompile(`(?m)^fail  snowflake login: .*\n      fix: .`).MatchString(problems) {
		t.Errorf("no fix in\n%s", problems)
	}
}
