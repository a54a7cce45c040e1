package localsnowflake

import (
	"encoding/json"
	"strconv"
	"testing"
)

func TestHistory_EngineResultsAreBounded(t *testing.T) {
	h := newHistory(16)
	var all []*execution
	for n := range 40 {
		e := &execution{done: make(chan struct{}), record: Statement{User: "U", QueryID: strconv.Itoa(n)}}
		h.begin(e, false)
		h.claim(e)
		h.settle(e, result{engine: map[string]json.RawMessage{}, engineID: "E" + e.record.QueryID, size: maxEngineAnswer}, true)
		all = append(all, e)
		if h.size > maxHistorySize {
			t.Fatalf("%d bytes are kept after %d results", h.size, n+1)
		}
	}
	if r := h.resultOf(all[39]); r.engine == nil || r.failure != nil {
		t.Errorf("the latest result is %+v", r)
	}
	if r := h.resultOf(all[30]); r.engine != nil || r.failure == nil || r.failure.code != StatementNotFound {
		t.Errorf("an old result is %+v", r)
	}
	if id := h.engineID("U", "30"); id != "E30" {
		t.Errorf("the engine's id of an old query is %q", id)
	}
}
