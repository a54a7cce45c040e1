package snowflake

import (
	"context"
	"fmt"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

// A Slot is one of a user's two places for a public key: RSA_PUBLIC_KEY, RSA_PUBLIC_KEY_2.
type Slot struct {
	Number      int       // 1 or 2
	Fingerprint string    // as DESC USER prints it; "" when the slot is free
	SetAt       time.Time // zero where Snowflake does not say
}

// Property is what the slot is called in DESC USER and ALTER USER.
func (s Slot) Property() string {
	if s.Number == 2 {
		return "RSA_PUBLIC_KEY_2"
	}
	return "RSA_PUBLIC_KEY"
}

// Slots returns the two slots of the user, logged in with key.
func (c *Client) Slots(ctx context.Context, key *keyfile.Key) ([2]Slot, error) {
	slots := [2]Slot{{Number: 1}, {Number: 2}}
	c, err := c.Identify(ctx, key)
	if err != nil {
		return slots, err
	}
	result, err := c.Query(ctx, key, "DESC USER "+Identifier(c.User))
	if err != nil {
		return slots, err
	}
	for _, row := range result.Rows {
		if len(row) < 2 || row[1] == "null" {
			continue
		}
		for i := range slots {
			switch row[0] {
			case slots[i].Property() + "_FP":
				slots[i].Fingerprint = failure.Text(row[1])
			case slots[i].Property() + "_LAST_SET_TIME":
				slots[i].SetAt, _ = time.Parse("2006-01-02 15:04:05.000", row[1])
			}
		}
	}
	return slots, nil
}

// SetKey is the statement that assigns a public key, as base64 of its SPKI DER, to a slot.
func SetKey(user string, slot Slot, publicKey string) string {
	return fmt.Sprintf("ALTER USER %s SET %s='%s'", Identifier(user), slot.Property(), publicKey)
}

// UnsetKey is the statement that frees a slot.
func UnsetKey(user string, slot Slot) string {
	return fmt.Sprintf("ALTER USER %s UNSET %s", Identifier(user), slot.Property())
}
