package snowflake

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

// A KeyPair is one of a user's named key pairs: a row of SHOW USER KEY PAIRS.
type KeyPair struct {
	Name        string
	Fingerprint string
	Active      bool
	CreatedAt   time.Time
	ExpiresAt   time.Time // zero: never
	RotatedTo   string    // the key pair that has replaced it; "" for one in use
}

// KeyPairs returns the user's named key pairs, logged in with key.
func (c *Client) KeyPairs(ctx context.Context, key *keyfile.Key) ([]KeyPair, error) {
	c, err := c.Identify(ctx, key)
	if err != nil {
		return nil, err
	}
	result, err := c.Query(ctx, key, "SHOW USER KEY PAIRS FOR USER "+Identifier(c.User))
	if err != nil {
		return nil, err
	}
	var all []KeyPair
	for _, row := range result.Rows {
		var pair KeyPair
		for i, column := range result.Columns {
			if i >= len(row) {
				break
			}
			switch strings.ToLower(column) {
			case "name":
				pair.Name = row[i]
			case "fingerprint":
				pair.Fingerprint = failure.Text(row[i])
			case "status":
				pair.Active = row[i] == "ACTIVE"
			case "created_on":
				pair.CreatedAt = parseTimestamp(row[i])
			case "expires_at":
				pair.ExpiresAt = parseTimestamp(row[i])
			case "rotated_to":
				pair.RotatedTo = row[i]
			}
		}
		if !showable(pair.Name) || !showable(pair.RotatedTo) {
			return nil, failure.New(keyfile.ClassOther, fmt.Errorf("user %s has a key pair whose name is too long or has control characters", c.User),
				"see SHOW USER KEY PAIRS, and remove it or add it under another name")
		}
		all = append(all, pair)
	}
	return all, nil
}

// parseTimestamp reads a timestamp as the SQL API writes it: seconds since 1970, with a fraction, and perhaps a time zone.
func parseTimestamp(cell string) time.Time {
	seconds, _, _ := strings.Cut(cell, " ")
	d, err := time.ParseDuration(seconds + "s")
	if err != nil {
		return time.Time{}
	}
	return time.Unix(0, 0).Add(d).UTC()
}

// AddKeyPair is the statement that gives a user a named key pair.
func AddKeyPair(user, name, publicKey string) string {
	return fmt.Sprintf("ALTER USER %s ADD KEY PAIR %s PUBLIC_KEY='%s'", Identifier(user), Identifier(name), publicKey)
}

// RotateKeyPair is the statement that puts another public key in a named key pair. The replaced one is
// accepted for some hours more; with less than none it is up to Snowflake, which takes a day, or as long as
// the key pair would have lasted anyway.
func RotateKeyPair(user, name, publicKey string, hours int) string {
	statement := fmt.Sprintf("ALTER USER %s ROTATE KEY PAIR %s PUBLIC_KEY='%s'", Identifier(user), Identifier(name), publicKey)
	if hours < 0 {
		return statement
	}
	return fmt.Sprintf("%s EXPIRE_ROTATED_KEY_PAIR_AFTER_HOURS=%d", statement, hours)
}

// RemoveKeyPair is the statement that takes a named key pair away.
func RemoveKeyPair(user, name string) string {
	return fmt.Sprintf("ALTER USER %s REMOVE KEY PAIR %s", Identifier(user), Identifier(name))
}
