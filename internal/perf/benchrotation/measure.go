package main

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The phases of a measurement.
const (
	before = iota
	during
	after
	phases
)

// A sample is what one phase's queries took.
type sample struct {
	took   []time.Duration
	failed int
}

type result [phases]sample

func (r *result) failed() int { return r[before].failed + r[during].failed + r[after].failed }

// measure runs one scenario on one kind of pool.
func measure(s setup, sc scenario, open func(*fixture) (*sql.DB, error)) (*result, error) {
	w, stop, err := newFixture(s)
	if err != nil {
		return nil, err
	}
	defer stop()
	db, err := open(w)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	db.SetMaxOpenConns(s.workers)
	db.SetMaxIdleConns(s.workers)
	if err := warm(db, s.workers); err != nil {
		return nil, err
	}
	w.snowflake.SetLoginLatency(s.login)
	return load(w, db, sc)
}

// warm opens every connection, while logins are quick.
func warm(db *sql.DB, n int) error {
	var conns []*sql.Conn
	for range n {
		c, err := db.Conn(context.Background())
		if err != nil {
			return err
		}
		conns = append(conns, c)
	}
	for _, c := range conns {
		_ = c.Close()
	}
	return nil
}

func load(w *fixture, db *sql.DB, sc scenario) (*result, error) {
	var phase atomic.Int32
	var workers sync.WaitGroup
	each := make([]result, w.workers) // each worker has its own, so that none waits for another
	for i := range each {
		workers.Go(func() {
			for p := phase.Load(); p < phases; p = phase.Load() {
				began := time.Now()
				err := db.QueryRowContext(context.Background(), "SELECT 1").Scan(new(string))
				if err != nil {
					each[i][p].failed++
				}
				each[i][p].took = append(each[i][p].took, time.Since(began))
			}
		})
	}
	time.Sleep(w.phase)
	phase.Store(during)
	middle := time.Now()
	err := sc.during(w)
	time.Sleep(max(w.phase, sc.lasts) - time.Since(middle))
	phase.Store(after)
	time.Sleep(w.phase)
	phase.Store(phases)
	workers.Wait()

	var all result
	for i := range each {
		for p := range phases {
			all[p].took = append(all[p].took, each[i][p].took...)
			all[p].failed += each[i][p].failed
		}
	}
	for p := range phases {
		slices.Sort(all[p].took)
	}
	return &all, err
}

func (s sample) quantile(q float64) time.Duration {
	if len(s.took) == 0 {
		return 0
	}
	return s.took[int(q*float64(len(s.took)-1))]
}

const header = `| scenario | workers | login | pool | queries | failed | p50 during/before | p99 during/before | p99 after/before | worst during/login |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
`

func row(name string, s setup, ours, plain *result) string {
	var b strings.Builder
	for _, p := range []struct {
		pool string
		r    *result
	}{{"snowkey", ours}, {"plain", plain}} {
		ratio := func(phase int, q float64) string {
			return fmt.Sprintf("%.2f", float64(p.r[phase].quantile(q))/float64(p.r[before].quantile(q)))
		}
		fmt.Fprintf(&b, "| %s | %d | %v | %s | %d | %d | %s | %s | %s | %.2f |\n", name, s.workers, s.login, p.pool,
			len(p.r[before].took)+len(p.r[during].took)+len(p.r[after].took), p.r.failed(),
			ratio(during, 0.5), ratio(during, 0.99), ratio(after, 0.99),
			float64(p.r[during].quantile(1))/float64(s.login))
	}
	return b.String()
}
