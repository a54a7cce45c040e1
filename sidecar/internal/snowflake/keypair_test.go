package snowflake

import "testing"

func TestParseTimestamp(t *testing.T) {
	for text, want := range map[string]int64{"1780000000.250": 1780000000250, "1780000000.250000000 1440": 1780000000250} {
		if got := parseTimestamp(text).UnixMilli(); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
	for _, text := range []string{"", "yesterday"} {
		if got := parseTimestamp(text); !got.IsZero() {
			t.Errorf("%q: %v", text, got)
		}
	}
}
