package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

const module = "github.com/snowkey/snowkey/"

// benchmarked are the packages whose benchmarks are guarded: all that they have.
var benchmarked = []string{
	"shared/keyfile", "shared/keywatch", "shared/snowkey",
	"sidecar/internal/decrypt", "sidecar/internal/publish", "sidecar/internal/refresh", "sidecar/internal/snowflake",
}

// measureAllocations runs benchmarks, for what they allocate alone.
func measureAllocations(ctx context.Context, p programs) (m measured, err error) {
	toolchain := p.goFor(runtime.Version())
	m.conditions = conditions(toolchain, runtime.GOOS+"/"+runtime.GOARCH)
	// What a collection frees has to be allocated again: without any the figures are the same each time.
	const measuresTime = "^BenchmarkDeriveKey$" // a second for each, and no allocation of interest
	args := []string{"test", "-exec", "env GOMAXPROCS=1 GOGC=off", "-run", "^$", "-bench", ".", "-skip", measuresTime, "-benchmem", "-benchtime", "100x", "-count", fmt.Sprint(runs)}
	for _, p := range benchmarked {
		args = append(args, "./"+p)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOTOOLCHAIN="+toolchain)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return m, fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	m.figures = medians(out)
	return m, nil
}

var (
	ofPackage   = regexp.MustCompile(`^pkg: (\S+)`)
	ofBenchmark = regexp.MustCompile(`^Benchmark(\S+)\s.*\s(\d+) B/op\s+(\d+) allocs/op`)
)

// medians are those of each benchmark in the output of go test.
func medians(output []byte) []figure {
	type benchmark struct{ name, unit string }
	values := map[benchmark][]int64{}
	in := ""
	for line := range bytes.Lines(output) {
		if p := ofPackage.FindSubmatch(line); p != nil {
			in = strings.TrimPrefix(string(p[1]), module)
		}
		b := ofBenchmark.FindSubmatch(line)
		if b == nil {
			continue
		}
		name := in + " " + string(b[1])
		for i, unit := range []string{"B/op", "allocs/op"} {
			key := benchmark{name, unit}
			values[key] = append(values[key], number(b[2+i]))
		}
	}
	var all []figure
	for b, v := range values {
		slices.Sort(v)
		all = append(all, figure{v[len(v)/2], b.unit, b.name})
	}
	return all
}
