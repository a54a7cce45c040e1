package localsnowflake

import (
	"fmt"
	"strings"
	"time"
)

// table is SELECT * FROM VALUES: any number of rows, which a selection has not.
type table struct{ lines [][]item }

func (table) typeID() int64 { return typeSelect }

func (t table) duration() (total time.Duration) {
	for _, line := range t.lines {
		total += selection{line}.duration()
	}
	return total
}

func (t table) columns(sc *scope) []column {
	columns := make([]column, len(t.lines[0]))
	for n := range columns {
		columns[n] = t.column(sc, n)
	}
	return columns
}

// column has room for the nth value of every line.
func (t table) column(sc *scope, n int) column {
	name := fmt.Sprintf("COLUMN%d", n+1)
	var wide *column
	nullable := false
	for _, line := range t.lines {
		if line[n].kind == nullLiteral {
			nullable = true
			continue
		}
		c := line[n].column(sc)
		if wide != nil {
			c = widest(*wide, c)
		}
		wide = &c
	}
	if wide == nil {
		return textColumn(name)
	}
	wide.Name, wide.Nullable = name, wide.Nullable || nullable
	return *wide
}

func widest(a, b column) column {
	if a.Type != "fixed" || b.Type != "fixed" {
		return a
	}
	decimals := max(*a.Scale, *b.Scale)
	whole := max(*a.Precision-*a.Scale, *b.Precision-*b.Scale)
	return numberColumn(a.Name, whole+decimals, decimals)
}

func (t table) rows(sc *scope) ([][]*string, *failure) {
	columns := t.columns(sc)
	rows := make([][]*string, 0, len(t.lines))
	for _, line := range t.lines {
		values, failure := selection{line}.rows(sc)
		if failure != nil {
			return nil, failure
		}
		row := values[0]
		for n, c := range columns {
			row[n] = c.fit(row[n])
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// fit writes a number with as many decimals as its column has.
func (c column) fit(cell *string) *string {
	if cell == nil || c.Type != "fixed" || *c.Scale == 0 {
		return cell
	}
	whole, decimals, _ := strings.Cut(*cell, ".")
	fitted := whole + "." + decimals + strings.Repeat("0", *c.Scale-len(decimals))
	return &fitted
}
