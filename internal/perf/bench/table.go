package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const mebibyte = 1 << 20

// checkInterval is that of the health check in the example task definitions.
const checkInterval = 5 * time.Second

// startTable compares all to the first.
func startTable(all []*contestant) (string, error) {
	var b strings.Builder
	floor := all[0]
	slowest := all[len(all)-1]
	fmt.Fprintf(&b, "Start to key on disk, medians; the floor takes %.1f ms, %.1f ms of them of the processor.\n\n",
		1e3*floor.median(wall), 1e3*floor.median(processor))
	columns := []string{"", "time / floor", "processor time / floor", "peak memory", "program", "as gzip"}
	if slowest.slow {
		columns = slices.Insert(columns, 3, "times as fast as "+slowest.name)
	}
	fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(columns, " | "), strings.Repeat(" --- |", len(columns)))
	for _, c := range all {
		fmt.Fprintf(&b, "| %s | %.2f | %.2f | ", c.name, c.median(wall)/floor.median(wall), c.median(processor)/floor.median(processor))
		if slowest.slow {
			fmt.Fprintf(&b, "%.0f | ", slowest.median(wall)/c.median(wall))
		}
		fmt.Fprintf(&b, "%.1f MiB | ", c.median(peak)/mebibyte)
		if c.program == "" {
			b.WriteString(" | |\n")
			continue
		}
		plain, compressed, err := size(c.program)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%.1f MB | %.2f MB |\n", float64(plain)/1e6, float64(compressed)/1e6)
	}
	return b.String(), nil
}

func (i idle) table() string {
	hourly := float64(time.Hour) / float64(i.window)
	return fmt.Sprintf("| `sidecar run` between two refreshes, through %v | |\n| --- | --- |\n"+
		"| resident memory | %.1f MiB |\n"+
		"| of it its own | %.1f MiB |\n"+
		"| of it pages of the program's file, which the kernel takes back when it needs them | %.1f MiB |\n"+
		"| threads woken | %d times, so %.0f an hour |\n"+
		"| processor time | %.1f ms, so %.0f ms an hour |\n"+
		"| processor time of a health check, which is a process of its own | %.1f ms, so %.0f ms an hour at an interval of %v |\n",
		i.window, float64(i.all)/mebibyte, float64(i.own)/mebibyte, float64(i.file)/mebibyte,
		i.used.wakeups, hourly*float64(i.used.wakeups), 1e3*i.used.processor.Seconds(), hourly*1e3*i.used.processor.Seconds(),
		1e3*i.check.Seconds(), 1e3*i.check.Seconds()*float64(time.Hour/checkInterval), checkInterval)
}

func pollTable(polls []poll) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Refreshes that find nothing new, counted at an interval of 1 s and scaled to the default of %v:\n\n", interval)
	b.WriteString("| names | keys | calls of SSM a refresh | calls of KMS a refresh | calls of SSM an hour | calls of KMS an hour | processor time a refresh |\n" +
		"| --- | --- | --- | --- | --- | --- | --- |\n")
	hourly := float64(time.Hour / interval)
	for _, p := range polls {
		each := func(n int) float64 { return float64(n) / float64(p.refreshes) }
		fmt.Fprintf(&b, "| %d | %d | %.2g | %.2g | %.0f | %.0f | %.1f ms |\n", p.names, p.keys, each(p.calls), each(p.decrypts),
			hourly*each(p.calls), hourly*each(p.decrypts), 1e3*p.processor.Seconds())
	}
	return b.String()
}
