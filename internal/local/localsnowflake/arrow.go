package localsnowflake

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
)

// withoutArrow replaces rows in Arrow by rows in JSON. Node's driver and the SQL API have those alone, and fakesnow
// answers a query in Arrow only.
func withoutArrow(data map[string]json.RawMessage) error {
	var in struct {
		Format string      `json:"queryResultFormat"`
		Arrow  []byte      `json:"rowsetBase64"`
		Rows   [][]*string `json:"rowset"`
		Types  []column    `json:"rowtype"`
	}
	if err := json.Unmarshal(encoded(data), &in); err != nil {
		return err
	}
	switch in.Format {
	case "": // where to copy a file
		return nil
	case "arrow":
		rows, err := arrowRows(in.Arrow, in.Types)
		if err != nil {
			return err
		}
		in.Rows = rows
	}
	setRows(data, in.Rows)
	return nil
}

// setRows has everything that Node's driver waits for. Without the number of rows that are returned it never ends.
func setRows(data map[string]json.RawMessage, rows [][]*string) {
	delete(data, "rowsetBase64")
	data["rowset"], data["queryResultFormat"] = encoded(rows), encoded("json")
	data["total"], data["returned"] = encoded(len(rows)), encoded(len(rows))
	data["version"] = encoded(1) // how a time zone is written
}

// arrowRows reads a stream of Arrow. An empty one has no rows.
func arrowRows(stream []byte, columns []column) ([][]*string, error) {
	rows := [][]*string{}
	if len(stream) == 0 {
		return rows, nil
	}
	reader, err := ipc.NewReader(bytes.NewReader(stream))
	if err != nil {
		return nil, err
	}
	defer reader.Release()
	if n := reader.Schema().NumFields(); n != len(columns) {
		return nil, fmt.Errorf("it has %d columns, described are %d", n, len(columns))
	}
	for reader.Next() {
		if rows, err = appendRows(rows, reader.Record(), columns); err != nil {
			return nil, err
		}
	}
	if err := reader.Err(); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return rows, nil
}

func appendRows(rows [][]*string, batch arrow.Record, columns []column) ([][]*string, error) {
	for n := range int(batch.NumRows()) {
		row := make([]*string, len(columns))
		for i, c := range columns {
			cell, err := arrowCell(batch.Column(i), n, c.Type)
			if err != nil {
				return nil, fmt.Errorf("column %s: %w", c.Name, err)
			}
			row[i] = cell
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// arrowCell is the nth value, as JSON results have it.
func arrowCell(values arrow.Array, n int, columnType string) (*string, error) {
	if values.IsNull(n) {
		return nil, nil
	}
	switch values := values.(type) {
	case *array.Boolean:
		return booleanCell(values.Value(n)), nil
	case *array.Binary:
		text := strings.ToUpper(hex.EncodeToString(values.Value(n)))
		return &text, nil
	case *array.Date32:
		return orNull(strconv.Itoa(int(values.Value(n)))), nil
	case *array.Struct:
		return timestampCell(values, n)
	case *array.Float64:
		text := floatText(values.Value(n))
		return &text, nil
	case *array.Int64:
		if columnType == "time" {
			return orNull(seconds(values.Value(n)/1e9, values.Value(n)%1e9)), nil
		}
	}
	text := values.ValueStr(n)
	return &text, nil
}

// floatText is a number without an exponent where that is readable.
func floatText(v float64) string {
	switch size := math.Abs(v); {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 0):
		return strings.TrimPrefix(strings.ToLower(strconv.FormatFloat(v, 'f', -1, 64)), "+")
	case v == 0, size >= 1e-5 && size < 1e15:
		return strconv.FormatFloat(v, 'f', -1, 64)
	default:
		return strconv.FormatFloat(v, 'e', -1, 64)
	}
}

// timestampCell is a timestamp, which fakesnow has as seconds, nanoseconds and, if there is a time zone, its minutes.
func timestampCell(values *array.Struct, n int) (*string, error) {
	var parts [3]int64
	if values.NumField() < 2 || values.NumField() > len(parts) {
		return nil, fmt.Errorf("%v is no timestamp", values.DataType())
	}
	for i := range values.NumField() {
		switch part := values.Field(i).(type) {
		case *array.Int64:
			parts[i] = part.Value(n)
		case *array.Int32:
			parts[i] = int64(part.Value(n))
		default:
			return nil, fmt.Errorf("%v is no timestamp", values.DataType())
		}
		if values.Field(i).IsNull(n) {
			return nil, nil
		}
	}
	cell := seconds(parts[0], parts[1])
	if values.NumField() == len(parts) {
		cell += " " + strconv.FormatInt(parts[2], 10)
	}
	return &cell, nil
}

// seconds writes a time with its nanoseconds, which are counted forward also before 1970.
func seconds(whole, nanoseconds int64) string {
	if whole < 0 && nanoseconds > 0 {
		return fmt.Sprintf("-%d.%09d", -(whole + 1), int64(1e9)-nanoseconds)
	}
	return fmt.Sprintf("%d.%09d", whole, nanoseconds)
}
