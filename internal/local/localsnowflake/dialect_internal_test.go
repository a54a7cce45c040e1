package localsnowflake

import (
	"encoding/json"
	"testing"
)

func TestForward_Translates(t *testing.T) {
	s := New()
	sc := &scope{server: s, user: "U", session: &session{}, bindings: map[string]binding{}}
	for sql, want := range map[string]string{
		"COPY INTO t FROM '@s' FILE_FORMAT=(TYPE=CSV FIELD_DELIMITER='@')": "COPY INTO t FROM @s FILE_FORMAT=(TYPE=CSV FIELD_DELIMITER='@')",
		"COPY INTO '@s/x' FROM t":         "COPY INTO @s/x FROM t",
		"PUT 'file:///a' '@s'":            "PUT 'file:///a' @s",
		"SELECT 'U', CURRENT_ROLE() || 1": "SELECT 'U', NULL || 1",
	} {
		h := forwarded{parsed: parse(sql), request: engineQuery{SQLText: sql}}
		if got := h.requests(sc)[0].SQLText; got != want {
			t.Errorf("%s becomes %s, want %s", sql, got, want)
		}
	}
}

func TestForward_KeepsStatementsAboutUsers(t *testing.T) {
	for _, sql := range []string{
		"CREATE USER x PASSWORD='s'", "// note\nCREATE USER x PASSWORD='s'", "-- note\nALTER USER x SET", "/* a */ ALTER /* b */ USER u SET PASSWORD='open",
		"SELECT 1; ALTER USER u SET PASSWORD='open", "SHOW USERS LIKE 'open", "use role 'a",
	} {
		if !isLocal(sql, parse(sql)) {
			t.Errorf("%q goes to the engine", sql)
		}
	}
}

func FuzzForward(f *testing.F) {
	for _, sql := range []string{
		"SELECT CURRENT_USER(), $1, :2", "CREATE OR REPLACE TEMPORARY TABLE IF NOT EXISTS a.b (c INT)", "CREATE TEMP", "TEMPORARY", "$", "a:1",
		"COPY INTO t FROM '@s' FILE_FORMAT=(TYPE='CSV', NULL_IF=('a','b')) MATCH_BY_COLUMN_NAME='x'", "PUT 'file:///a' ?", "PUT", "COPY 'a",
		"USE DATABASE a", `USE "a""b".c`, "ALTER USER", "SELECT 'it''s", "$$ $1 $$", "/* ", "SELECT 1; SELECT 2;;", "CURRENT_USER(", "COPY '@a''b' '@a\\'",
	} {
		f.Add(sql)
	}
	s := New()
	f.Fuzz(func(t *testing.T, sql string) {
		sc := &scope{server: s, user: "U", session: &session{}, bindings: map[string]binding{
			"1": {Type: "TEXT", Value: json.RawMessage(`"@s"`)}, "2": {Type: "TEXT", Value: json.RawMessage(`null`)},
		}}
		for _, one := range split(sql) {
			parsed := parse(one)
			if !isLocal(one, parsed) && isOfTheAccount(one) {
				t.Errorf("%q goes to the engine", one)
			}
			forwarded{parsed: parsed, request: engineQuery{SQLText: one}}.requests(sc)
		}
	})
}
