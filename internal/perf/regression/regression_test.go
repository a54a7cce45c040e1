package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// recorded is what stands in figures.txt, so that the tests are about every figure that is guarded.
func recorded(t *testing.T) figures {
	t.Helper()
	f, err := read("figures.txt")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// asRecorded is what is measured where nothing has changed but one figure, if it is one that there is.
func asRecorded(f figures, changed int, value func(int64) int64) []measured {
	var all []measured
	for _, k := range kinds {
		m := measured{kind: k, conditions: f.conditions}
		for i, g := range f.all {
			if kindOf(g) != k {
				continue
			}
			if i == changed {
				g.value = value(g.value)
			}
			m.figures = append(m.figures, g)
		}
		all = append(all, m)
	}
	return all
}

func reported(before figures, now []measured, requireEvery bool) (string, error) {
	var out strings.Builder
	err := report(&out, compare(before, now), requireEvery)
	return out.String(), err
}

func TestFigures_OfEachKindAreRecorded(t *testing.T) {
	f := recorded(t)
	in := map[string]bool{}
	for _, g := range f.all {
		in[kindOf(g).name] = true
		if kindOf(g).name == "allocations" {
			pkg, _, _ := strings.Cut(g.name, " ")
			in[pkg] = true
		}
	}
	for _, k := range kinds {
		if !in[k.name] {
			t.Errorf("no figure of %s", k.name)
		}
	}
	for _, pkg := range benchmarked {
		if !in[pkg] {
			t.Errorf("no figure of %s", pkg)
		}
	}
	if again, err := parse(f.String()); err != nil || again.String() != f.String() {
		t.Errorf("it does not read back: %v", err)
	}
}

func TestCompare_AcceptsEqualFigures(t *testing.T) {
	f := recorded(t)
	out, err := reported(f, asRecorded(f, -1, nil), true)
	if err != nil || !strings.Contains(out, fmt.Sprintf("%d figures: %[1]d as they were, 0 better, 0 worse, 0 not compared", len(f.all))) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestCompare_LossOfMoreThanATenthFails(t *testing.T) {
	f := recorded(t)
	for i, g := range f.all {
		for change, value := range map[string]func(int64) int64{
			"15 percent": func(n int64) int64 { return n*115/100 + 1 },
			"just more":  func(n int64) int64 { return n*11/10 + 1 },
		} {
			_, err := reported(f, asRecorded(f, i, value), false)
			if err == nil {
				t.Fatalf("%s of %s: %s is not noticed", g.unit, g.name, change)
			}
			for _, want := range []string{
				g.unit + " of " + g.name, fmt.Sprintf("%d before, %d now", g.value, value(g.value)), "make regression-figures", kindOf(g).show(g.name),
			} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%s of %s: the error lacks %q:\n%v", g.unit, g.name, want, err)
				}
			}
			if n := strings.Count(err.Error(), "\n  - "); n != 1 {
				t.Errorf("one loss is %d problems:\n%v", n, err)
			}
		}
		if out, err := reported(f, asRecorded(f, i, func(n int64) int64 { return n * 11 / 10 }), false); err != nil {
			t.Errorf("%s of %s: a tenth fails: %v\n%s", g.unit, g.name, err, out)
		}
	}
}

func TestCompare_GainIsReported(t *testing.T) {
	f := recorded(t)
	for i, g := range f.all {
		out, err := reported(f, asRecorded(f, i, func(n int64) int64 { return n * 8 / 10 }), true)
		if err != nil {
			t.Errorf("%s of %s: %v", g.unit, g.name, err)
		}
		if told := strings.Contains(out, "1 are more than a tenth better: keep that with make regression-figures"); told != (g.value > 0) {
			t.Errorf("%s of %s:\n%s", g.unit, g.name, out)
		}
	}
}

func TestCompare_NewOrMissingFigureFails(t *testing.T) {
	f := recorded(t)
	for i, g := range f.all {
		without := figures{conditions: f.conditions, all: append(append([]figure(nil), f.all[:i]...), f.all[i+1:]...)}
		if _, err := reported(without, asRecorded(f, -1, nil), false); err == nil || !strings.Contains(err.Error(), g.unit+" of "+g.name+": "+fmt.Sprint(g.value)+", and "+figuresFile+" has no such figure") {
			t.Errorf("new: %v", err)
		}
		if _, err := reported(f, asRecorded(without, -1, nil), false); err == nil || !strings.Contains(err.Error(), g.unit+" of "+g.name+": was "+fmt.Sprint(g.value)+", and is not measured any more") {
			t.Errorf("gone: %v", err)
		}
	}
}

// What cannot be compared here is said, and fails only where it must be.
func TestCompare_SaysWhatCannotBeCompared(t *testing.T) {
	f := recorded(t)
	worse := func(n int64) int64 { return 2*n + 1 }
	for i, k := range kinds {
		for name, spoil := range map[string]func(*measured){
			"no valgrind here": func(m *measured) { m.figures, m.cannot = nil, errors.New("no valgrind here") },
			"go1.99":           func(m *measured) { m.conditions = "go1.99 linux/amd64" },
		} {
			var first int
			for kindOf(f.all[first]) != k {
				first++
			}
			now := asRecorded(f, first, worse)
			spoil(&now[i])
			out, err := reported(f, now, false)
			if err != nil || !strings.Contains(out, "NOT COMPARED: "+k.name+": ") || !strings.Contains(out, name) {
				t.Errorf("%s, %s: %v\n%s", k.name, name, err, out)
			}
			if strings.Contains(out, " 0 not compared") {
				t.Errorf("%s, %s: not counted:\n%s", k.name, name, out)
			}
			if _, err := reported(f, now, true); err == nil || !strings.Contains(err.Error(), "REQUIRE_EVERY_FIGURE") {
				t.Errorf("%s, %s: not required: %v", k.name, name, err)
			}
		}
	}
}

// What is renewed are the figures that have changed, and those of another Go all.
func TestFigures_RenewalLeavesOutNoise(t *testing.T) {
	f := recorded(t)
	for i, g := range f.all {
		for _, tc := range []struct {
			value func(int64) int64
			kept  bool
		}{
			{func(n int64) int64 { return n + n/noise }, true},
			{func(n int64) int64 { return n - n/noise }, true},
			{func(n int64) int64 { return n + n/noise + 1 }, false},
		} {
			now := asRecorded(f, i, tc.value)
			renewed, err := renew(f, now)
			if err != nil {
				t.Fatal(err)
			}
			want := tc.value(g.value)
			if tc.kept {
				want = g.value
			}
			if r, _ := renewed.find(g); r.value != want || len(renewed.all) != len(f.all) {
				t.Errorf("%s of %s: %d, renewed to %d, want %d", g.unit, g.name, g.value, r.value, want)
			}
			for j := range now {
				now[j].conditions = "go1.99 linux/amd64"
			}
			renewed, err = renew(f, now)
			if r, _ := renewed.find(g); err != nil || r.value != tc.value(g.value) || renewed.conditions != now[0].conditions {
				t.Errorf("%s of %s with another Go: renewed to %d, %v", g.unit, g.name, r.value, err)
			}
		}
	}
}

func TestFigures_AreRenewedTogetherOrNotAtAll(t *testing.T) {
	f := recorded(t)
	for i, k := range kinds {
		now := asRecorded(f, -1, nil)
		now[i].cannot = errors.New("no valgrind here")
		if _, err := renew(f, now); err == nil || !strings.Contains(err.Error(), k.name) {
			t.Errorf("without %s: %v", k.name, err)
		}
		now = asRecorded(f, -1, nil)
		now[i].conditions = "go1.99 linux/amd64"
		if _, err := renew(f, now); err == nil || !strings.Contains(err.Error(), "go1.99") {
			t.Errorf("%s with another Go: %v", k.name, err)
		}
	}
}

func TestFigures_AreReadStrictly(t *testing.T) {
	for _, bad := range []string{
		"", "go1.26 linux/amd64\n", "go1.26 linux/amd64\n12 bytes\n", "go1.26 linux/amd64\nx bytes sidecar\n",
		"go1.26 linux/amd64\n1 seconds sidecar\n", "go1.26 linux/amd64\n1 bytes sidecar\n2 bytes sidecar\n",
	} {
		if f, err := parse(bad); err == nil {
			t.Errorf("%q is read as %v", bad, f)
		}
	}
}

func TestConditions_AreGosMinorVersionAndThePlatform(t *testing.T) {
	for goVersion, want := range map[string]string{
		"go1.26.8": "go1.26 linux/amd64", "go1.27rc1": "go1.27 linux/amd64",
	} {
		if got := conditions(goVersion, platform); got != want {
			t.Errorf("%s: %s, want %s", goVersion, got, want)
		}
	}
}

func TestToolchain_InstalledGoOfTheSameMinorVersionServes(t *testing.T) {
	p := programs{toolchain: "go1.26.11"}
	for installed, want := range map[string]string{
		"go1.26.8": "go1.26.8", "go1.26.8-X:runtimesecret": "go1.26.8", "go1.27.1": "go1.26.11", "devel go1.28-abcdef": "go1.26.11",
	} {
		if got := p.goFor(installed); got != want {
			t.Errorf("%s: %s, want %s", installed, got, want)
		}
	}
}

func TestBenchmarks_MedianCounts(t *testing.T) {
	got := medians([]byte(`goos: linux
pkg: github.com/snowkey/snowkey/shared/keyfile
BenchmarkParse/der   	     100	    186150 ns/op	   40000 B/op	     250 allocs/op
BenchmarkParse/der   	     100	     195.9 ns/op	   30376 B/op	     242 allocs/op
BenchmarkParse/der   	     100	    153245 ns/op	   30376 B/op	     241 allocs/op
PASS
ok  	github.com/snowkey/snowkey/shared/keyfile	0.184s
pkg: github.com/snowkey/snowkey/sidecar/internal/decrypt
BenchmarkKey 	     100	    661153 ns/op	       0 B/op	       0 allocs/op
`))
	want := []figure{
		{30376, "B/op", "shared/keyfile Parse/der"}, {242, "allocs/op", "shared/keyfile Parse/der"},
		{0, "B/op", "sidecar/internal/decrypt Key"}, {0, "allocs/op", "sidecar/internal/decrypt Key"},
	}
	if len(got) != len(want) {
		t.Fatalf("%v", got)
	}
	for _, w := range want {
		if f, ok := (figures{all: got}).find(w); !ok || f != w {
			t.Errorf("%v, want %v", f, w)
		}
	}
}
