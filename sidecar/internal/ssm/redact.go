package ssm

import (
	"errors"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// longestText is as much of an error as is shown: it may repeat an answer that may be anybody's.
const longestText = 1000

// givesCredentials are the variables that say where a task's credentials are, and with which token.
var givesCredentials = []string{"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN"}

// Shown is an error about AWS settings or credentials as it can be shown. On an instance the path at which a task's
// credentials are is all that it takes to get them: the SDK and whoever answers there repeat it, and this does not.
func Shown(err error) error {
	text := err.Error()
	for _, name := range givesCredentials {
		value := os.Getenv(name)
		quoted := strconv.Quote(value)
		for _, form := range []string{value, quoted[1 : len(quoted)-1], pathOf(value)} {
			if len(form) > 1 {
				text = strings.ReplaceAll(text, form, "$"+name)
			}
		}
	}
	if len(text) > longestText { // what went wrong stands last, where it was asked first
		text = strings.ToValidUTF8(text[:longestText/2]+" ... "+text[len(text)-longestText/2:], "")
	}
	return errors.New(text)
}

// pathOf is the path of an address, "" if it is none.
func pathOf(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Path
}
