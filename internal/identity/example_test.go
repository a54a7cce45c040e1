package identity_test

import (
	"fmt"

	"github.com/snowkey/snowkey/internal/identity"
)

// All of these are the same account.
func ExampleParseAccount() {
	for _, text := range []string{
		"myorg-my_account",
		"myorg.my_account", // as in SQL
		"https://app.snowflake.com/myorg/my_account/worksheets",
		`"myorg-my_account"`, // as in an env file
	} {
		account, err := identity.ParseAccount(text)
		fmt.Println(account, account.Host(), account.Name(), err)
	}
	_, err := identity.ParseAccount("my account")
	fmt.Println(err != nil)
	// Output:
	// myorg-my_account myorg-my-account.snowflakecomputing.com MYORG-MY_ACCOUNT <nil>
	// myorg-my_account myorg-my-account.snowflakecomputing.com MYORG-MY_ACCOUNT <nil>
	// myorg-my_account myorg-my-account.snowflakecomputing.com MYORG-MY_ACCOUNT <nil>
	// myorg-my_account myorg-my-account.snowflakecomputing.com MYORG-MY_ACCOUNT <nil>
	// true
}

func ExampleParseHost() {
	fmt.Println(identity.ParseHost("https://MYORG-MY_ACCOUNT.snowflakecomputing.com:443/"))
	fmt.Println(identity.ParseHost("localhost:8080"))
	// Output:
	// myorg-my-account.snowflakecomputing.com 443 <nil>
	// localhost 8080 <nil>
}
