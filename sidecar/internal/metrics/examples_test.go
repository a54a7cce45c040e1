package metrics

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/suite/taskdef"
	"github.com/snowkey/snowkey/shared/keyfile"
)

// written are the metrics that CloudWatch makes of what is written, each as "NAMESPACE NAME DIMENSION...".
func written(t *testing.T, key string) []string {
	t.Helper()
	var all []string
	for _, l := range embed(t, time.Minute, success(key, true), failed(key, keyfile.ClassPassphrase)) {
		for _, set := range l["_aws"].(map[string]any)["CloudWatchMetrics"].([]any) {
			set := set.(map[string]any)
			for _, m := range set["Metrics"].([]any) {
				for _, d := range set["Dimensions"].([]any) {
					name := set["Namespace"].(string) + " " + m.(map[string]any)["Name"].(string)
					for _, dimension := range d.([]any) {
						name += " " + dimension.(string)
					}
					all = append(all, name)
				}
			}
		}
	}
	return all
}

// An alarm on a metric that is not written never fires, or never ends.
func TestExamples_AlarmsAreOnWrittenMetrics(t *testing.T) {
	examples := os.DirFS("../../../examples/taskdef")
	for _, key := range []string{"", "etl"} {
		metrics := written(t, key)
		for _, name := range []string{"cloudformation.yaml", "terraform"} {
			e, err := taskdef.Read(examples, name)
			if err != nil {
				t.Fatal(err)
			}
			alarms := slices.DeleteFunc(e.Alarms, e.Counted) // those are on lines of a rotation
			if len(alarms) != 2 {
				t.Errorf("%s has %d alarms", name, len(alarms))
			}
			for _, a := range alarms {
				dimensions := slices.Sorted(maps.Keys(a.Dimensions))
				if on := strings.Join(append([]string{a.Namespace, a.MetricName}, dimensions...), " "); !slices.Contains(metrics, on) {
					t.Errorf("%s: an alarm is on %q, and with the key %q there are\n%s", name, on, key, strings.Join(metrics, "\n"))
				}
			}
		}
	}
}

func TestExamples_CloudWatchDashboardShowsWrittenMetrics(t *testing.T) {
	var dashboard struct {
		Widgets []struct {
			Properties struct{ Metrics [][]any }
		}
	}
	dashboardFile(t, "cloudwatch.json", &dashboard)
	for _, key := range []string{"", "etl"} {
		metrics, shown := written(t, key), 0
		for _, w := range dashboard.Widgets {
			for _, m := range w.Properties.Metrics {
				shown++
				if m[3] != "SERVICE" || len(m) != 5 {
					t.Errorf("%v: its value is not for its user to replace, or there are others", m)
				}
				if on := m[0].(string) + " " + m[1].(string) + " " + m[2].(string); !slices.Contains(metrics, on) {
					t.Errorf("%s, and with the key %q there are\n%s", on, key, strings.Join(metrics, "\n"))
				}
			}
		}
		if shown < 6 {
			t.Errorf("%d metrics are shown", shown)
		}
	}
}

var (
	prometheusName = regexp.MustCompile(`snowkey_[a-z_]+`)
	grouping       = regexp.MustCompile(`by \(([a-z_, ]+)\)`)
	legendLabel    = regexp.MustCompile(`\{\{([a-z_]+)\}\}`)
)

// Every metric in the dashboard is served, with the labels that it is grouped and named by.
func TestExamples_GrafanaDashboardShowsServedMetrics(t *testing.T) {
	m := New(Build{"v1", "abc"}, "etl")
	served := map[string][]string{}
	for name, f := range parse(t, m) {
		served[name] = []string{"instance"} // Prometheus gives it
		for _, l := range f.GetMetric()[0].GetLabel() {
			served[name] = append(served[name], l.GetName())
		}
	}
	var dashboard struct {
		Panels []struct {
			Targets []struct{ Expr, LegendFormat string }
		}
	}
	dashboardFile(t, "grafana.json", &dashboard)
	shown := map[string]bool{}
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			labels := legendLabel.FindAllStringSubmatch(target.LegendFormat, -1)
			labels = append(labels, grouping.FindAllStringSubmatch(target.Expr, -1)...)
			for _, name := range prometheusName.FindAllString(target.Expr, -1) {
				shown[name] = true
				if served[name] == nil {
					t.Errorf("%s is not served", name)
				}
				for _, l := range labels {
					if !slices.Contains(served[name], l[1]) {
						t.Errorf("%s has no label %s", name, l[1])
					}
				}
			}
		}
	}
	for name := range served {
		if !shown[name] && name != "snowkey_key_published_timestamp_seconds" {
			t.Errorf("%s is in no panel", name)
		}
	}
}

func dashboardFile(t *testing.T, name string, into any) {
	t.Helper()
	data, err := os.ReadFile("../../../docs/dashboards/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}
