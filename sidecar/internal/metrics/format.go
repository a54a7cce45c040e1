package metrics

import (
	"fmt"
	"strconv"
	"strings"
)

// contentType is that of Prometheus's text format, in which "\", a quotation mark and a line feed are escaped in labels.
const contentType = "text/plain; version=0.0.4; charset=utf-8"

var escaped = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// A family is one metric, with a value for each of its labels. Its help has no line feed and no "\".
type family struct {
	name, kind, help string
	samples          []*sample
}

// A sample is a value with its labels as the format has them, such as {outcome="ok"}.
type sample struct {
	labels string
	value  float64
}

// at is the sample with these labels, which are names and values in turns. A new one is 0.
func (f *family) at(labels ...string) *sample {
	written := writeLabels(labels)
	for _, s := range f.samples {
		if s.labels == written {
			return s
		}
	}
	s := &sample{labels: written}
	f.samples = append(f.samples, s)
	return s
}

// writeLabels leaves out a label without a value, which Prometheus takes for none.
func writeLabels(labels []string) string {
	var all []string
	for i := 0; i < len(labels); i += 2 {
		if name, value := labels[i], labels[i+1]; value != "" {
			all = append(all, name+`="`+escaped.Replace(value)+`"`)
		}
	}
	if len(all) == 0 {
		return ""
	}
	return "{" + strings.Join(all, ",") + "}"
}

func (f *family) write(text *strings.Builder) {
	fmt.Fprintf(text, "# HELP %[1]s %[2]s\n# TYPE %[1]s %[3]s\n", f.name, f.help, f.kind)
	for _, s := range f.samples {
		text.WriteString(f.name + s.labels + " " + strconv.FormatFloat(s.value, 'g', -1, 64) + "\n")
	}
}
