package localsnowflake_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testenv"
)

// arrowColumn is a column as fakesnow has it: a type of Snowflake's, one of Arrow's, and three values.
type arrowColumn struct {
	name, kind string
	arrow      arrow.DataType
	values     func(array.Builder)
	want       []string // as JSON; "NULL" for NULL
}

var (
	localTime = arrow.StructOf(arrow.Field{Name: "epoch", Type: arrow.PrimitiveTypes.Int64}, arrow.Field{Name: "fraction", Type: arrow.PrimitiveTypes.Int32})
	zonedTime = arrow.StructOf(arrow.Field{Name: "epoch", Type: arrow.PrimitiveTypes.Int64}, arrow.Field{Name: "fraction", Type: arrow.PrimitiveTypes.Int32},
		arrow.Field{Name: "timezone", Type: arrow.PrimitiveTypes.Int32})

	arrowColumns = []arrowColumn{
		{"N", "fixed", arrow.PrimitiveTypes.Int64, func(b array.Builder) {
			b.(*array.Int64Builder).AppendValues([]int64{1, -2, 0}, []bool{true, true, false})
		}, []string{"1", "-2", "NULL"}},
		{"D", "fixed", &arrow.Decimal128Type{Precision: 10, Scale: 2}, func(b array.Builder) {
			b.(*array.Decimal128Builder).AppendValues([]decimal128.Num{decimal128.FromI64(125), decimal128.FromI64(-5), {}}, []bool{true, true, false})
		}, []string{"1.25", "-0.05", "NULL"}},
		{"F", "real", arrow.PrimitiveTypes.Float64, func(b array.Builder) {
			b.(*array.Float64Builder).AppendValues([]float64{1234567.5, -1e300, 0}, nil)
		}, []string{"1234567.5", "-1e+300", "0"}},
		{"T", "text", arrow.BinaryTypes.String, func(b array.Builder) {
			b.(*array.StringBuilder).AppendValues([]string{"it's \"so\" é", "", "x"}, []bool{true, true, false})
		}, []string{"it's \"so\" é", "", "NULL"}},
		{"B", "boolean", arrow.FixedWidthTypes.Boolean, func(b array.Builder) {
			b.(*array.BooleanBuilder).AppendValues([]bool{true, false, false}, []bool{true, true, false})
		}, []string{"1", "0", "NULL"}},
		{"X", "binary", arrow.BinaryTypes.Binary, func(b array.Builder) {
			b.(*array.BinaryBuilder).AppendValues([][]byte{{0xca, 0xfe}, {}, nil}, []bool{true, true, false})
		}, []string{"CAFE", "", "NULL"}},
		{"DAY", "date", arrow.FixedWidthTypes.Date32, func(b array.Builder) {
			b.(*array.Date32Builder).AppendValues([]arrow.Date32{7306, -1, 0}, []bool{true, true, false})
		}, []string{"7306", "-1", "NULL"}},
		{"AT", "time", arrow.PrimitiveTypes.Int64, func(b array.Builder) {
			b.(*array.Int64Builder).AppendValues([]int64{3_600_000_000_001, 0, 0}, []bool{true, true, false})
		}, []string{"3600.000000001", "0.000000000", "NULL"}},
		{"NTZ", "timestamp_ntz", localTime, appendTimes, []string{"1.500000000", "-0.500000000", "NULL"}},
		{"TZ", "timestamp_tz", zonedTime, appendTimes, []string{"1.500000000 1440", "-0.500000000 1440", "NULL"}},
	}
)

// appendTimes has a NULL as fakesnow has it: in the parts, not in the whole.
func appendTimes(b array.Builder) {
	times := b.(*array.StructBuilder)
	times.AppendValues([]bool{true, true, true})
	present := []bool{true, true, false}
	times.FieldBuilder(0).(*array.Int64Builder).AppendValues([]int64{1, -1, 0}, present)
	times.FieldBuilder(1).(*array.Int32Builder).AppendValues([]int32{5e8, 5e8, 0}, present)
	if times.NumField() > 2 {
		times.FieldBuilder(2).(*array.Int32Builder).AppendValues([]int32{1440, 1440, 1440}, nil)
	}
}

// arrowAnswer is the engine's answer to a query with all arrowColumns.
func arrowAnswer(t *testing.T) string {
	t.Helper()
	var fields []arrow.Field
	var types []string
	for _, c := range arrowColumns {
		fields = append(fields, arrow.Field{Name: c.name, Type: c.arrow, Nullable: true})
		types = append(types, fmt.Sprintf(`{"name":%q,"type":%q,"nullable":true,"scale":9}`, c.name, c.kind))
	}
	builder := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, nil))
	defer builder.Release()
	for i, c := range arrowColumns {
		c.values(builder.Field(i))
	}
	batch := builder.NewRecord()
	defer batch.Release()
	var stream bytes.Buffer
	w := ipc.NewWriter(&stream, ipc.WithSchema(batch.Schema()))
	if err := w.Write(batch); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"success":true,"data":{"queryId":"q","queryResultFormat":"arrow","rowsetBase64":%q,"rowtype":[%s],"total":3,"statementTypeId":4096}}`,
		base64.StdEncoding.EncodeToString(stream.Bytes()), strings.Join(types, ","))
}

func wantedRows() (rows [][]string) {
	for n := range 3 {
		var row []string
		for _, c := range arrowColumns {
			row = append(row, c.want[n])
		}
		rows = append(rows, row)
	}
	return rows
}

// text writes NULL out.
func text(cells [][]*string) (rows [][]string) {
	for _, line := range cells {
		var row []string
		for _, cell := range line {
			if cell == nil {
				row = append(row, "NULL")
				continue
			}
			row = append(row, *cell)
		}
		rows = append(rows, row)
	}
	return rows
}

// openAs logs in as a driver that names itself.
func (c *client) openAs(driver string) *client {
	c.t.Helper()
	out := c.mustPost(localsnowflake.EndpointLogin, map[string]any{"data": map[string]any{
		"AUTHENTICATOR": "SNOWFLAKE_JWT", "TOKEN": token(c.t, oldKey()), "CLIENT_APP_ID": driver,
	}})
	c.token, c.master = out.Data.Token, out.Data.MasterToken
	return c
}

func TestEngine_NodeGetsJSON(t *testing.T) {
	testenv.Slow(t)
	a, e := newAccountWithEngine(t, engineTimeout)
	answer := arrowAnswer(t)
	e.answers(func(string) string { return answer })
	for driver, format := range map[string]string{"JavaScript": "json", "Go": "arrow", "PythonConnector": "arrow"} {
		var got struct {
			Data struct {
				QueryResultFormat, RowSetBase64 string
				RowSet                          [][]*string
				Total, Returned, Version        int
			}
		}
		if err := json.Unmarshal(a.client().openAs(driver).raw(t, map[string]any{"sqlText": "SELECT * FROM t"}), &got); err != nil {
			t.Fatal(err)
		}
		if got.Data.QueryResultFormat != format || (got.Data.RowSetBase64 == "") != (format == "json") {
			t.Errorf("%s: %+v", driver, got)
		}
		if format != "json" {
			continue
		}
		if rows := text(got.Data.RowSet); !reflect.DeepEqual(rows, wantedRows()) || got.Data.Total != 3 || got.Data.Returned != 3 || got.Data.Version != 1 {
			t.Errorf("%s: %+v\n%q, want\n%q", driver, got, rows, wantedRows())
		}
	}
}

func TestEngine_ArrowThatCannotBeReadIsAFailure(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	c := a.client().openAs("JavaScript")
	for name, data := range map[string]string{
		"no Arrow":          `{"queryResultFormat":"arrow","rowsetBase64":"QVJST1cx","rowtype":[]}`,
		"no base64":         `{"queryResultFormat":"arrow","rowsetBase64":"?","rowtype":[]}`,
		"of another shape":  `{"queryResultFormat":["arrow"]}`,
		"too few are named": strings.Replace(strings.TrimSuffix(strings.TrimPrefix(arrowAnswer(t), `{"success":true,"data":`), "}"), `"rowtype":[{`, `"rowtype":[],"ignored":[{`, 1),
	} {
		e.answers(func(string) string { return `{"success":true,"data":` + data + `}` })
		out := c.query("", "SELECT * FROM t")
		out.want(t, localsnowflake.ExecutionFailed)
		if !strings.Contains(out.Message, "cannot be read") {
			t.Errorf("%s: it says %q", name, out.Message)
		}
	}
	e.answers(func(string) string {
		return `{"success":true,"data":{"queryResultFormat":"arrow","rowsetBase64":"","rowtype":[{"name":"A","type":"text"}]}}`
	})
	if out := c.query("", "SELECT * FROM t"); !out.Success || len(out.Data.RowSet) != 0 {
		t.Errorf("no rows: %+v", out)
	}
}

func TestEngine_NodeIsToldHowManyRowsThereAre(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	e.answers(func(string) string {
		return `{"success":true,"data":{"queryResultFormat":"json","rowset":[["2"]],"rowtype":[{"name":"number of rows inserted","type":"fixed"}]}}`
	})
	var got struct {
		Data struct{ Total, Returned, Version int }
	}
	if err := json.Unmarshal(a.client().openAs("JavaScript").raw(t, map[string]any{"sqlText": "INSERT INTO t VALUES (1), (2)"}), &got); err != nil {
		t.Fatal(err)
	}
	if got.Data.Total != 1 || got.Data.Returned != 1 || got.Data.Version != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestSQLAPI_GoesToTheEngine(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	a.SetRoles("svc", "loader")
	answer := arrowAnswer(t)
	e.answers(func(string) string { return answer })
	body := func() string {
		encoded, err := json.Marshal(map[string]any{
			"statement": "SELECT CURRENT_ROLE(), ? FROM t", "database": "DB", "schema": "S", "warehouse": "WH", "role": "LOADER", "bindings": bindings("x"),
		})
		if err != nil {
			t.Fatal(err)
		}
		return do(t, http.MethodPost, a.url+localsnowflake.EndpointStatements, a.headers(oldKey()), string(encoded)).body
	}()
	var got struct {
		Code              string
		Data              [][]*string
		ResultSetMetaData struct {
			NumRows int
			RowType []struct{ Name, Type string }
		}
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if rows := text(got.Data); !reflect.DeepEqual(rows, wantedRows()) {
		t.Errorf("%q, want\n%q", rows, wantedRows())
	}
	if meta := got.ResultSetMetaData; meta.NumRows != 3 || meta.RowType[1].Name != "D" || meta.RowType[1].Type != "fixed" || got.Code != "090001" {
		t.Errorf("got %+v", got)
	}
	e.wantStatements("SELECT 'LOADER', ? FROM t")
	if login := e.requests(localsnowflake.EndpointLogin)[0].query; login.Get("databaseName") != "DB" || login.Get("schemaName") != "S" {
		t.Errorf("the engine's session is in %v", login)
	}
	if raw := e.requests(localsnowflake.EndpointQuery)[0].raw; !strings.Contains(raw, `"value":"x"`) {
		t.Errorf("no bindings in %s", raw)
	}
	testenv.Eventually(t, "the engine's session is closed", func() bool { return len(e.requests(localsnowflake.EndpointClose)) == 1 })
}

func TestSQLAPI_KeepsWhatIsTheAccounts(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	for _, sql := range []string{"SELECT CURRENT_USER()", "DESC USER svc", "SELECT SYSTEM$WAIT(0)"} {
		a.execute(sql).want(t, http.StatusOK, localsnowflake.StatementSucceeded)
	}
	for _, sql := range []string{
		"USE DATABASE db", "USE SCHEMA s", "USE ROLE x", "BEGIN", "COMMIT", "ALTER SESSION SET AUTOCOMMIT=FALSE", "PUT file:///f @s", "GET @s file:///tmp",
	} {
		a.execute(sql).want(t, http.StatusUnprocessableEntity, localsnowflake.StatementUnsupported)
	}
	e.wantStatements()
}

func TestSQLAPI_EngineFailures(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	e.answers(func(string) string {
		return `{"success":false,"code":"002003","message":"no table","data":{"sqlState":"42S02"}}`
	})
	a.execute("SELECT * FROM t").want(t, http.StatusUnprocessableEntity, localsnowflake.ObjectNotFound)
	e.slow()
	a.call(http.MethodPost, localsnowflake.EndpointStatements, a.headers(oldKey()), map[string]any{"statement": "SELECT 1", "timeout": 1}).want(t, http.StatusRequestTimeout, localsnowflake.StatementTimedOut)
}

func TestSQLAPI_EngineIsPolledAndCanceled(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	a.SetInProgressAfter(time.Millisecond)
	release := e.slow()
	running := a.execute("SELECT 1")
	running.want(t, http.StatusAccepted, localsnowflake.StatementInProgressAsync)
	release()
	var out statement
	testenv.Eventually(t, "it ends", func() bool {
		out = a.call(http.MethodGet, running.StatementStatusURL, a.headers(oldKey()), nil)
		return out.status != http.StatusAccepted
	})
	if out.status != http.StatusOK || out.Data[0][0] != "from the engine" {
		t.Errorf("got %+v", out)
	}
	e.slow()
	running = a.execute("SELECT 2")
	testenv.Eventually(t, "the engine has it", func() bool { return slices.Contains(e.statements(), "SELECT 2") })
	cancel := localsnowflake.EndpointStatements + "/" + running.StatementHandle + "/cancel"
	a.call(http.MethodPost, cancel, a.headers(oldKey()), nil).want(t, http.StatusOK, localsnowflake.StatementCanceled)
	testenv.Eventually(t, "both sessions of the engine are closed", func() bool { return len(e.requests(localsnowflake.EndpointClose)) == 2 })
}
