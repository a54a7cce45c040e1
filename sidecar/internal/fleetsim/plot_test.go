package fleetsim

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// A plot is calls a second over time, as an SVG: the fleet's, those of them that were throttled, and the limit.
type plot struct {
	title string
	calls calls
	limit func(at time.Duration) float64
	marks []mark
}

// A mark is where something begins.
type mark struct {
	at   time.Duration
	name string
}

const (
	plotWidth  = 900
	plotHeight = 400
	plotLeft   = 60
	plotRight  = 20
	plotTop    = 140 // title, legend and four rows of marks are above
	plotBottom = 36
	columns    = 400
)

// The colours differ for readers who confuse red and green, too, and the limit is dashed.
const (
	fleetStyle     = `fill="none" stroke="#0b5cad" stroke-width="1.5"`
	throttledStyle = `fill="none" stroke="#c2410c" stroke-width="1.5"`
	limitStyle     = `fill="none" stroke="#111" stroke-width="1.5" stroke-dasharray="6 4"`
)

func (p plot) write(path string) error {
	return os.WriteFile(path, []byte(p.svg()), 0o644)
}

func (p plot) svg() string {
	per := max(1, len(p.calls)/columns)
	limit := p.limit(0)
	top := 2.5 * limit // what is above goes to the edge
	x := func(at time.Duration) float64 {
		return plotLeft + (plotWidth-plotLeft-plotRight)*at.Seconds()/float64(len(p.calls))
	}
	y := func(rate float64) float64 {
		return plotHeight - plotBottom - (plotHeight-plotTop-plotBottom)*min(rate, top)/top
	}
	var all, throttled, allowed strings.Builder
	for i := 0; i+per <= len(p.calls); i += per {
		s := p.calls[i : i+per].sum()
		at := time.Duration(i) * time.Second
		fmt.Fprintf(&all, "%.1f,%.1f ", x(at), y(float64(s.fleet)/float64(per)))
		fmt.Fprintf(&throttled, "%.1f,%.1f ", x(at), y(float64(s.throttled)/float64(per)))
		fmt.Fprintf(&allowed, "%.1f,%.1f ", x(at), y(p.limit(at)))
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="16">`+"\n", plotWidth, plotHeight)
	// A background of its own: the page may be dark.
	fmt.Fprintf(&b, `<rect width="%d" height="%d" rx="6" fill="white"/>`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, `<text x="%d" y="26" font-size="18" font-weight="bold">%s</text>`+"\n", plotLeft, p.title)
	for i, line := range []struct{ name, style string }{{"calls a second", fleetStyle}, {"throttled", throttledStyle}, {"limit", limitStyle}} {
		left := plotLeft + 190*i
		fmt.Fprintf(&b, `<line x1="%d" x2="%d" y1="46" y2="46" %s/><text x="%d" y="52">%s</text>`+"\n", left, left+30, line.style, left+38, line.name)
	}
	for rate := 0.0; rate <= top; rate += limit / 2 {
		fmt.Fprintf(&b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%g</text>`+"\n",
			plotLeft, plotWidth-plotRight, y(rate), y(rate), plotLeft-8, y(rate)+5, rate)
	}
	hours := time.Duration(len(p.calls)) * time.Second
	step := max(time.Hour, (hours / 12).Round(time.Hour))
	for at := time.Duration(0); at < hours; at += step {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%g h</text>`+"\n", x(at), plotHeight-12, at.Hours())
	}
	for i, m := range p.marks {
		row := plotTop - 66 + 18*(i%4)
		left, anchor := x(m.at)+4, "start"
		if left > plotWidth-120 {
			left, anchor = x(m.at)-4, "end"
		}
		fmt.Fprintf(&b, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#767676" stroke-dasharray="3 3"/><text x="%.1f" y="%d" text-anchor="%s" fill="#333">%s</text>`+"\n",
			x(m.at), x(m.at), row-10, plotHeight-plotBottom, left, row+3, anchor, m.name)
	}
	fmt.Fprintf(&b, `<polyline points="%s" %s/>`+"\n", &all, fleetStyle)
	fmt.Fprintf(&b, `<polyline points="%s" %s/>`+"\n", &throttled, throttledStyle)
	fmt.Fprintf(&b, `<polyline points="%s" %s/>`+"\n", &allowed, limitStyle)
	b.WriteString("</svg>\n")
	return b.String()
}
