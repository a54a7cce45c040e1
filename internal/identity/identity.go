// Package identity reads the settings that say where to log in to Snowflake, and as whom: an account, a host, a user. The
// sidecar and the package snowkey share it, so that both read the same text in the same way:
//
//	account, err := identity.ParseAccount("https://app.snowflake.com/myorg/myaccount")
//	account.Host() // myorg-myaccount.snowflakecomputing.com
//
// It follows the rules of Snowflake's drivers. It also reads what the drivers do not: addresses copied from a browser,
// quotation marks that an env file keeps, white space and carriage returns.
//
// # Errors
//
// Each function has one kind of error: the text is not what the function reads. The message says what to write instead. It
// quotes nothing of the text, which may hold a password.
//
// # What it never does
//
// It never connects to anything, and keeps no state: its functions may be called from several goroutines. It imports the
// standard library only.
package identity

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// longest is the length of the longest identifier in Snowflake. No host name is longer.
const longest = 255

// ParseUser returns a user's login name, which is not always the name that SQL statements use. It is "" for an empty text.
func ParseUser(text string) (login string, err error) {
	login = clean(text)
	if utf8.RuneCountInString(login) > longest || strings.ContainsFunc(login, unicode.IsControl) {
		return "", errors.New("write the user's LOGIN_NAME on one line, as DESC USER shows it: at most 255 characters")
	}
	return login, nil
}

// ParseHost returns the name or the IP address of a host, and the port, which is 0 if the text has none. A host of
// Snowflake's has the form of [Account.Host]. The host is "" for an empty text.
func ParseHost(text string) (host string, port int, err error) {
	u, err := parseAddress(clean(text))
	switch {
	case err != nil:
		return "", 0, fmt.Errorf("%w; write the host's name alone, such as myorg-myaccount.snowflakecomputing.com", err)
	case u.scheme == "http":
		return "", 0, errors.New("it begins with http://; write the host's name alone, and set the protocol, for a local Snowflake, apart from it")
	case !validHost(u.host):
		return "", 0, errors.New("it is not the name of a host; write one such as myorg-myaccount.snowflakecomputing.com")
	}
	switch host := strings.ToLower(u.host); {
	case IsSnowflakeHost(host):
		a, err := ofHost(u)
		return a.Host(), u.port, err
	case host == website:
		a, err := ofWebsite(u.path, "")
		return a.Host(), u.port, err
	case IsSnowflakeHost("." + host): // the domain alone
		return "", 0, errForm
	}
	return u.host, u.port, nil
}

// CheckProtocol returns an error if protocol is "http" and host is one of Snowflake's: login tokens would be sent without
// encryption. An empty host is the account's, which is Snowflake's.
func CheckProtocol(protocol, host string) error {
	if !strings.EqualFold(protocol, "http") || host != "" && !IsSnowflakeHost(host) {
		return nil
	}
	return errors.New("http is for a local Snowflake, and would send login tokens to Snowflake's own host without encryption; " +
		"leave the protocol out, or name the local host")
}

// isLabel reports whether text can be a part of a host's name or of an identifier: letters, digits, - and _. Its first and
// last character is a letter, a digit, or one of ends.
func isLabel(text, ends string) bool {
	const longest, letters = 63, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	other := func(r rune) bool { return !strings.ContainsRune(letters+"-_", r) }
	if text == "" || len(text) > longest || strings.ContainsFunc(text, other) {
		return false
	}
	return strings.Contains(letters+ends, text[:1]) && strings.Contains(letters+ends, text[len(text)-1:])
}

func validHost(host string) bool {
	if host == "" {
		return true
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Zone() == "" || isLabel(ip.Zone(), "")
	}
	if len(host) > longest {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if !isLabel(label, "_") {
			return false
		}
	}
	return true
}

// clean removes what surrounds a value in an env file, a template or a copied text.
func clean(text string) string {
	for {
		before := text
		text = strings.Trim(strings.TrimSpace(text), "\ufeff")
		for _, quote := range []string{`"`, "'", "`"} {
			if len(text) >= 2 && strings.HasPrefix(text, quote) && strings.HasSuffix(text, quote) {
				text = text[1 : len(text)-1]
			}
		}
		if text == before {
			return text
		}
	}
}

// An address is a URL, or as much of one as there is.
type address struct {
	scheme string // in lower case; "" without one
	host   string // without brackets and the dot at the end
	port   int    // 0 without one
	path   string
}

var schemes = []string{"https", "http", "snowflake", "jdbc:snowflake"}

func parseAddress(text string) (address, error) {
	var u address
	if strings.Contains(text, "@") {
		return u, errors.New("it has an @, perhaps after a user and a password")
	}
	if len(text) > 2*longest || strings.ContainsFunc(text, foreign) {
		return u, errors.New("it is too long, or has a line break or a letter that no address has")
	}
	for _, scheme := range schemes {
		if prefix := scheme + "://"; len(text) >= len(prefix) && strings.EqualFold(text[:len(prefix)], prefix) {
			u.scheme, text = scheme, text[len(prefix):]
			break
		}
	}
	text, u.path = cutAny(text, "/?#\\")
	host, port, found := cutPort(text)
	u.host = strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"), ".")
	if !found {
		return u, nil
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return u, errors.New("what follows its colon is not a port")
	}
	u.port = int(number)
	return u, nil
}

func foreign(r rune) bool { return unicode.IsControl(r) || r > unicode.MaxASCII }

func cutAny(text, separators string) (before, after string) {
	if i := strings.IndexAny(text, separators); i >= 0 {
		return text[:i], text[i:]
	}
	return text, ""
}

// cutPort splits host and port. It does not split an IPv6 address.
func cutPort(text string) (host, port string, found bool) {
	i := strings.LastIndex(text, ":")
	if _, err := netip.ParseAddr(text); err == nil || i < strings.LastIndex(text, "]") || i < 0 {
		return text, "", false
	}
	return text[:i], text[i+1:], true
}
