package testenv

import (
	"flag"
	"strconv"
	"testing"
)

var long = flag.Bool("long", false, "try every case, and run random tests at full length, as make test-long does")

// share is how many similar cases there are for each one that a test tries.
func share() int {
	switch {
	case *long:
		return 1
	case testing.Short() || underRace:
		return 30
	default:
		return 10
	}
}

// Has reports whether a test tries the nth of many like cases.
func Has(n int) bool { return n%share() == 0 }

// Times is how often a test repeats something: in full with -long, and a third of what is usual with -short and under the race
// detector.
func Times(usual, full int) int {
	switch {
	case *long:
		return full
	case testing.Short() || underRace:
		return max(1, usual/3)
	default:
		return usual
	}
}

// Slow skips a test with -short, which make check sets: the test starts processes, sleeps or calculates for more than a
// moment.
func Slow(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes longer than -short allows")
	}
}

// Heavy skips a test with -short and under the race detector, which makes it take minutes: it calculates, and shares
// nothing between goroutines.
func Heavy(t testing.TB) {
	t.Helper()
	Slow(t)
	if underRace {
		t.Skip("the race detector finds nothing here, and takes minutes for it")
	}
}

// Parallel has the tests of a package run n at once, unless -parallel says otherwise: they wait more than they work. It is
// for TestMain.
func Parallel(n int) {
	flag.Parse()
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == parallel.DefValue {
		_ = parallel.Value.Set(strconv.Itoa(n))
	}
}
