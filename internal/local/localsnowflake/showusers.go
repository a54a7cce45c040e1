package localsnowflake

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
)

func (p *parser) showUsers() statement {
	if !p.words("LIMIT") {
		return showUsers{}
	}
	limit, err := strconv.Atoi(p.peek().text)
	if err != nil || limit < 1 {
		return p.unexpected()
	}
	p.next++
	return showUsers{limit: limit}
}

// showUsers lists the users that the current one may see: those of which it has the ownership.
type showUsers struct {
	instant
	limit int // 0: none
}

func (showUsers) typeID() int64 { return typeDescribe }

var userColumns = []column{
	textColumn("name"), textColumn("login_name"), textColumn("disabled"), textColumn("has_rsa_public_key"),
}

func (showUsers) columns(*scope) []column { return userColumns }

func (s showUsers) rows(sc *scope) ([][]*string, *failure) {
	rows := [][]*string{}
	for _, u := range sc.server.users.all() {
		if sc.authorize(u.name, Ownership) != nil || s.limit > 0 && len(rows) == s.limit {
			continue
		}
		disabled, hasKey := strconv.FormatBool(u.disabled), strconv.FormatBool(u.keys != [2]*publicKey{})
		rows = append(rows, []*string{&u.name, &u.login, &disabled, &hasKey})
	}
	return rows, nil
}

// all gives a copy of every user, by name.
func (u *users) all() []user {
	u.mu.RLock()
	defer u.mu.RUnlock()
	return slices.SortedFunc(maps.Values(u.byName), func(a, b user) int { return cmp.Compare(a.name, b.name) })
}
