package rotate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
)

const (
	maxUsers   = 200 // that are listed: an answer has a bound
	maxSharers = 50  // of which the keys are read, with two statements each
)

// findSharers returns the other users that have the key: a new key in the parameter would take their login. It finds
// users that the role sees in SHOW USERS, and whose keys it sees in DESC USER.
func (r *observer) findSharers(ctx context.Context, key *keyfile.Key) ([]string, error) {
	users, err := r.query(ctx, key, fmt.Sprintf("SHOW USERS LIMIT %d", maxUsers))
	if err != nil {
		return nil, err
	}
	// Users with a key in a slot come first, in case there are too many.
	slices.SortStableFunc(users, func(a, b map[string]string) int { return cmp.Compare(b["has_rsa_public_key"], a["has_rsa_public_key"]) })
	var sharers []string
	examined := 0
	for _, user := range users {
		name := user["name"]
		if name == r.Snowflake.User {
			continue
		}
		if examined++; examined > maxSharers {
			r.Say(fmt.Sprintf("the role sees more than %d other users: whether the others have this key, too, is not known", maxSharers))
			break
		}
		has, err := r.hasKey(ctx, key, snowflake.Identifier(name), user["has_rsa_public_key"] != "false")
		if err != nil {
			return nil, err
		}
		if has {
			sharers = append(sharers, snowflake.Identifier(failure.Text(name)))
		}
	}
	if examined == 0 {
		r.Say("this role cannot see other users, so a second user with this key would go unnoticed; a role with MANAGE GRANTS sees them")
	}
	return sharers, nil
}

func (r *observer) hasKey(ctx context.Context, key *keyfile.Key, user string, inSlots bool) (bool, error) {
	if inSlots {
		properties, err := r.query(ctx, key, "DESC USER "+user)
		if err != nil {
			return false, err
		}
		for _, p := range properties {
			if strings.HasSuffix(p["property"], "_FP") && p["value"] == key.Fingerprint() {
				return true, nil
			}
		}
	}
	pairs, err := r.query(ctx, key, "SHOW USER KEY PAIRS FOR USER "+user)
	for _, p := range pairs {
		if p["fingerprint"] == key.Fingerprint() && p["status"] == "ACTIVE" {
			return true, err
		}
	}
	return false, err
}

// query gives rows by column, none if the role may not run the statement.
func (r *observer) query(ctx context.Context, key *keyfile.Key, statement string) ([]map[string]string, error) {
	result, err := r.Snowflake.Query(ctx, key, statement)
	if _, refused := errors.AsType[*snowflake.StatementError](err); refused {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []map[string]string
	for _, cells := range result.Rows {
		row := map[string]string{}
		for i, column := range result.Columns {
			if i < len(cells) {
				row[strings.ToLower(column)] = cells[i]
			}
		}
		all = append(all, row)
	}
	return all, nil
}
