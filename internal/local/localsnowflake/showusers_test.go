package localsnowflake_test

import (
	"slices"
	"testing"
)

func TestShowUsers_ListsThoseThatTheUserMaySee(t *testing.T) {
	a := newAccount(t)
	a.CreateUserWithLogin("other", "other@corp.example")
	db := a.db()
	names := func(statement string) []string {
		t.Helper()
		rows, err := db.QueryContext(t.Context(), statement)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var all []string
		for rows.Next() {
			var name, login, disabled, hasKey string
			if err := rows.Scan(&name, &login, &disabled, &hasKey); err != nil {
				t.Fatal(err)
			}
			all = append(all, name+" "+login+" "+hasKey)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		return all
	}
	if got := names("SHOW USERS"); !slices.Equal(got, []string{"OTHER OTHER@CORP.EXAMPLE false", "SVC SVC true"}) {
		t.Errorf("%q", got)
	}
	if got := names("SHOW USERS LIMIT 1"); !slices.Equal(got, []string{"OTHER OTHER@CORP.EXAMPLE false"}) {
		t.Errorf("%q", got)
	}
	a.SetCanAlterUsers("svc", false)
	if got := names("SHOW USERS"); len(got) != 0 {
		t.Errorf("%q", got)
	}
}
