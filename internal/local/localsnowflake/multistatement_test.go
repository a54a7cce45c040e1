package localsnowflake_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
)

// several sends statements in one request, and returns its answer and the ids of their results.
func (c *client) several(t *testing.T, count any, sql string) (out answer, ids []string) {
	t.Helper()
	var data struct{ Data struct{ ResultIDs string } }
	body := c.raw(t, map[string]any{"sqlText": sql, "parameters": map[string]any{"MULTI_STATEMENT_COUNT": count}})
	if err := json.Unmarshal(body, &out); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, &data); err != nil {
		t.Fatal(err)
	}
	out.status = 200
	return out, strings.FieldsFunc(data.Data.ResultIDs, func(r rune) bool { return r == ',' })
}

func TestMultiStatement_EachHasAResult(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	c := a.client().open()
	for _, count := range []any{3, "3", 0} {
		out, ids := c.several(t, count, "CREATE TABLE t (a INT); /* one; */ SELECT CURRENT_USER();\nSELECT ';' ;;")
		if !out.Success || len(ids) != 3 {
			t.Fatalf("%v: got %+v with the results %v", count, out, ids)
		}
		var found []string
		for _, id := range ids {
			found = append(found, c.get(t, "/queries/"+id+"/result").Data.RowSet[0][0])
		}
		if want := []string{"from the engine", "SVC", "from the engine"}; !slices.Equal(found, want) {
			t.Errorf("%v: found %q", count, found)
		}
	}
	if got := e.statements(); !slices.Equal(got[:2], []string{"CREATE TABLE t (a INT)", "SELECT ';' "}) {
		t.Errorf("the engine was handed %q", got)
	}
}

func TestMultiStatement_FirstFailureEndsThem(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	e.answers(func(sql string) string {
		if strings.HasPrefix(sql, "BAD") {
			return `{"success":false,"code":"001003","message":"bad","data":{"sqlState":"42000"}}`
		}
		return ""
	})
	c := a.client().open()
	out, _ := c.several(t, 0, "SELECT 1; BAD; SELECT 2")
	out.want(t, localsnowflake.SyntaxError)
	e.wantStatements("SELECT 1", "BAD")
}

func TestMultiStatement_CountHasToMatch(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	c := a.client().open()
	out, _ := c.several(t, 3, "SELECT 1; SELECT 2")
	out.want(t, localsnowflake.StatementCountMismatch)
	out, _ = c.several(t, 1, "SELECT 1; SELECT 2")
	out.want(t, localsnowflake.StatementCountMismatch)
	out, _ = c.several(t, 0, strings.Repeat("SELECT 1;", 1001))
	out.want(t, localsnowflake.ExecutionFailed)
	e.wantStatements()
	if out, ids := c.several(t, 0, "SELECT 1;"); !out.Success || len(ids) != 0 || out.Data.RowSet[0][0] != "from the engine" {
		t.Errorf("one statement: %+v with the results %v", out, ids)
	}
}

func TestMultiStatement_DriverCountsTheRowsOfAll(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	types := map[string]int{"INSERT": 12544, "UPDATE": 12800, "DELETE": 13056, "MERGE": 13312, "CREATE": 24576, "COPY": 13824}
	e.answers(func(sql string) string {
		kind, _, _ := strings.Cut(sql, " ")
		return fmt.Sprintf(`{"success":true,"data":{"queryId":"q","rowtype":[{"name":"number of rows","type":"fixed"}],"rowset":[["2"]],`+
			`"total":1,"returned":1,"queryResultFormat":"json","statementTypeId":%d}}`, types[kind])
	})
	ctx := gosnowflake.WithMultiStatement(t.Context(), 0)
	result, err := a.db().ExecContext(ctx, "CREATE TABLE t (a INT); INSERT INTO t VALUES (1), (2); UPDATE t SET a = 3; DELETE FROM t; MERGE INTO t; COPY INTO t; BEGIN")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := result.RowsAffected(); n != 8 || err != nil {
		t.Errorf("%d rows affected, %v", n, err)
	}
}
