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
	plotWidth  = 800
	plotHeight = 220
	plotLeft   = 46
	plotTop    = 34
	plotBottom = 26
	columns    = 400
)

func (p plot) write(path string) error {
	return os.WriteFile(path, []byte(p.svg()), 0o644)
}

func (p plot) svg() string {
	per := max(1, len(p.calls)/columns)
	limit := p.limit(0)
	top := 2.5 * limit // what is above goes to the edge
	x := func(at time.Duration) float64 {
		return plotLeft + (plotWidth-plotLeft-10)*at.Seconds()/float64(len(p.calls))
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
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, `<text x="%d" y="14" font-size="12">%s</text>`+"\n", plotLeft, p.title)
	fmt.Fprintf(&b, `<text x="%d" y="28"><tspan fill="#1f5fa8">calls a second</tspan>  <tspan fill="#c0392b">throttled</tspan>  <tspan fill="#777">limit</tspan></text>`+"\n", plotLeft)
	for rate := 0.0; rate <= top; rate += limit / 2 {
		fmt.Fprintf(&b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#eee"/><text x="%d" y="%.1f" text-anchor="end">%g</text>`+"\n",
			plotLeft, plotWidth-10, y(rate), y(rate), plotLeft-6, y(rate)+4, rate)
	}
	hours := time.Duration(len(p.calls)) * time.Second
	step := max(time.Hour, (hours / 12).Round(time.Hour))
	for at := time.Duration(0); at < hours; at += step {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%g h</text>`+"\n", x(at), plotHeight-8, at.Hours())
	}
	for i, m := range p.marks {
		fmt.Fprintf(&b, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#999" stroke-dasharray="3 3"/><text x="%.1f" y="%d" fill="#555">%s</text>`+"\n",
			x(m.at), x(m.at), plotTop, plotHeight-plotBottom, x(m.at)+3, plotTop+10+12*(i%2), m.name)
	}
	fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="#777" stroke-dasharray="5 3"/>`+"\n", &allowed)
	fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="#1f5fa8"/>`+"\n", &all)
	fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="#c0392b"/>`+"\n", &throttled)
	b.WriteString("</svg>\n")
	return b.String()
}
