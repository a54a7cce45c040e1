package main

import (
	"slices"
	"strings"
)

var kinds = []*kind{
	{
		name: "size", units: []string{"bytes"}, measure: measureSizes,
		show: func(name string) string {
			program, _, _ := strings.Cut(name, ",")
			return "GOEXPERIMENT=runtimesecret go build -o bin/ ./" + program + " && go tool nm -size -sort size bin/" + program + " | head -50"
		},
	},
	{
		name: "allocations at the start", units: []string{"allocs/start", "B/start"}, measure: measureStart,
		show: func(string) string { return "make build && GODEBUG=inittrace=1 bin/sidecar version" },
	},
	{
		name: "instructions", units: []string{"instructions"}, measure: measureInstructions,
		show: func(name string) string {
			return "GOEXPERIMENT=runtimesecret go build -o bin/ ./sidecar && GOMAXPROCS=1 GOGC=off GODEBUG=asyncpreemptoff=1 valgrind --tool=callgrind --callgrind-out-file=bin/calls bin/" + name +
				" && callgrind_annotate --inclusive=yes bin/calls   # all but version with a task's variables"
		},
	},
	{
		name: "allocations", units: []string{"allocs/op", "B/op"}, measure: measureAllocations,
		show: func(name string) string {
			pkg, benchmark, _ := strings.Cut(name, " ")
			return "go test -run '^$' -bench '^Benchmark" + strings.ReplaceAll(benchmark, "/", "$/^") + "$' -memprofilerate 1 -memprofile mem.out -o bin/ ./" + pkg +
				" && go tool pprof -sample_index=alloc_space -top mem.out"
		},
	},
}

// kindOf is what a figure's unit says, nil if nothing is measured in it.
func kindOf(f figure) *kind {
	i := slices.IndexFunc(kinds, func(k *kind) bool { return slices.Contains(k.units, f.unit) })
	if i < 0 {
		return nil
	}
	return kinds[i]
}
