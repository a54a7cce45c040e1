package localsnowflake

import (
	"encoding/json"
	"testing"
)

func FuzzForward(f *testing.F) {
	for _, sql := range []string{
		"SELECT CURRENT_USER(), $1, :2", "CREATE OR REPLACE TEMPORARY TABLE IF NOT EXISTS a.b (c INT)", "CREATE TEMP", "TEMPORARY", "$", "a:1",
		"COPY INTO t FROM '@s' FILE_FORMAT=(TYPE='CSV', NULL_IF=('a','b')) MATCH_BY_COLUMN_NAME='x'", "PUT 'file:///a' ?", "PUT", "COPY 'a",
		"USE DATABASE a", `USE "a""b".c`, "ALTER USER", "SELECT 'it''s", "$$ $1 $$", "/* ", "SELECT 1; SELECT 2;;", "CURRENT_USER(", "COPY '@a''b' '@a\\'",
	} {
		f.Add(sql)
	}
	s := New()
	f.Fuzz(func(_ *testing.T, sql string) {
		sc := &scope{server: s, user: "U", session: &session{}, bindings: map[string]binding{
			"1": {Type: "TEXT", Value: json.RawMessage(`"@s"`)}, "2": {Type: "TEXT", Value: json.RawMessage(`null`)},
		}}
		for _, one := range split(sql) {
			parsed := parse(one)
			isLocal(one, parsed)
			forwarded{parsed: parsed, request: engineQuery{SQLText: one}}.requests(sc)
		}
	})
}
