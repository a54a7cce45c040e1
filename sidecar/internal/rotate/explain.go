package rotate

import (
	"errors"
	"fmt"

	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
)

// explainStatement says what to do about a statement that Snowflake refused, and leaves other errors alone.
func explainStatement(err error, user string) error {
	refused, ok := errors.AsType[*snowflake.StatementError](err)
	if !ok {
		return err
	}
	do := "change what Snowflake's message names, then run it again"
	switch refused.SQLState {
	case "42501":
		do = fmt.Sprintf("let the user's role change its keys: GRANT MODIFY PROGRAMMATIC AUTHENTICATION METHODS ON USER %s TO ROLE ..., "+
			"and if that is not its default role, set SNOWFLAKE_ROLE", snowflake.Identifier(user))
	case "02000":
		do = "check SNOWFLAKE_ROLE, --key-pair and SNOWFLAKE_USER, whose case counts if its name has more than letters, digits, _ and $"
	case "42000":
		do = "the account may not have named key pairs yet: run it without --key-pair"
	}
	return refusal{fmt.Errorf("%w; %s", refused, do)}
}
