package identity

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// An Account is an account's identifier in a form that every driver reads:
//
//   - ORGANIZATION-ACCOUNT, LOCATOR, LOCATOR.REGION or LOCATOR.REGION.CLOUD, each perhaps with .privatelink
//   - CONNECTION-ID.global
//   - the name of a host of Snowflake's, if no identifier leads to that host: see [Account.IsHost]
//
// [ParseAccount] makes it. "" is no account.
type Account string

const (
	domain       = ".snowflakecomputing.com"
	chinasDomain = ".snowflakecomputing.cn"
	website      = "app.snowflake.com"
)

var (
	errForm = errors.New("write the account's identifier: ORGANIZATION-ACCOUNT, as in https://ORGANIZATION-ACCOUNT.snowflakecomputing.com, " +
		"or LOCATOR.REGION.CLOUD, such as xy12345.us-east-2.aws")
	errForeignHost = errors.New("it is a host outside of snowflakecomputing.com; write the account's identifier, ORGANIZATION-ACCOUNT, " +
		"and that host apart from it (SNOWFLAKE_HOST)")
	errForeignPort = errors.New("it has a port; write the account's identifier alone, and the port apart from it (SNOWFLAKE_PORT)")
)

// ParseAccount returns the account of a text in any form that a driver, a browser or Snowflake itself uses. It is "" for an
// empty text.
func ParseAccount(text string) (Account, error) {
	text = clean(text)
	if text == "" {
		return "", nil
	}
	u, err := parseAddress(text)
	if err != nil {
		return "", fmt.Errorf("%w; %w", err, errForm)
	}
	host := strings.ToLower(u.host)
	switch {
	case u.port != 0 && u.port != 443 && (u.port != 80 || u.scheme != "http"):
		return "", errForeignPort
	case IsSnowflakeHost(host):
		return ofHost(u)
	case host == website:
		return ofWebsite(u.path, "")
	case u.path != "" && u.path != "/" && u.scheme == "":
		return "", errForm
	}
	a, err := ofIdentifier(u.host, u.scheme == "")
	if err != nil && u.scheme != "" && strings.Contains(host, ".") {
		return "", errForeignHost
	}
	return a, err
}

// IsSnowflakeHost reports whether a host's name is in one of Snowflake's domains.
func IsSnowflakeHost(host string) bool {
	host = strings.ToLower(host)
	return strings.HasSuffix(host, domain) || strings.HasSuffix(host, chinasDomain)
}

// AccountOfHost returns the account that the name of a host in one of Snowflake's domains contains. It is "" for any other
// text.
func AccountOfHost(text string) Account {
	u, err := parseAddress(clean(text))
	if err != nil || !IsSnowflakeHost(u.host) {
		return ""
	}
	a, _ := ofHost(u)
	return a
}

// ofHost returns the account of an address whose host is in one of Snowflake's domains.
func ofHost(u address) (Account, error) {
	lower := strings.ToLower(u.host)
	identifier := u.host[:strings.LastIndex(lower, ".snowflakecomputing.")]
	if first, rest, _ := strings.Cut(identifier, "."); strings.HasSuffix("."+strings.ToLower(rest), "."+privatelink) {
		switch prefix, account, _ := strings.Cut(first, "-"); {
		case !strings.EqualFold(prefix, "app"):
		case account == "":
			return ofWebsite(u.path, "."+privatelink)
		case strings.Contains(account, "-"):
			return ofIdentifier(account+"."+rest, false)
		}
	}
	a, err := ofIdentifier(identifier, false)
	if err == nil && a.Host() == strings.ReplaceAll(lower, "_", "-") {
		return a, nil
	}
	if whole := Account(lower); validHost(whole.Host()) && isLabel(whole.Label(), "") {
		return whole, nil
	}
	return "", errForm
}

// ofWebsite reads the path of an address that a browser shows: /ORGANIZATION/ACCOUNT, or /REGION.CLOUD/LOCATOR.
func ofWebsite(path, suffix string) (Account, error) {
	path, _ = cutAny(path, "?#")
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case len(parts) < 2:
		return "", errForm
	case strings.Contains(parts[0], "-"):
		return ofIdentifier(parts[1]+"."+parts[0]+suffix, false)
	default:
		return ofIdentifier(parts[0]+"-"+parts[1]+suffix, false)
	}
}

// ofIdentifier reads an identifier without a domain. In SQL a dot separates organization and account; drivers read it as
// the dot before a region. With dotted, it may be that of SQL.
func ofIdentifier(text string, dotted bool) (Account, error) {
	labels := strings.Split(text, ".")
	for _, l := range labels {
		if !isLabel(l, "") || strings.EqualFold(l, "snowflakecomputing") {
			return "", errForm
		}
	}
	name, rest := labels[0], labels[1:]
	switch {
	case len(text) > longest-len(domain), strings.EqualFold(name, "app") && strings.EqualFold(labels[len(labels)-1], privatelink):
		return "", errForm // too long, or Snowsight's host without the path that names the account
	case len(rest) == 1 && strings.EqualFold(rest[0], "us-west-2"): // the region of hosts that name none
		return Account(name), nil
	case len(rest) == 0 || isRegion(rest):
		return Account(text), nil
	case dotted && isOrganization(name) && isAccountName(rest) && isLabel(name+"-"+rest[0], ""):
		return Account(name + "-" + strings.Join(rest, ".")), nil
	default:
		return "", errForm
	}
}

const privatelink = "privatelink"

var clouds = []string{"aws", "azure", "gcp"}

// isRegion reports whether labels can follow a locator: a region, whose name has a hyphen, perhaps followed by its cloud,
// and perhaps preceded by the deployment of one customer or of a government. A connection has "global" in this place.
func isRegion(labels []string) bool {
	last := func() string { return strings.ToLower(labels[len(labels)-1]) }
	if last() == privatelink {
		labels = labels[:len(labels)-1]
	}
	if len(labels) == 0 || len(labels) == 1 && last() == "global" {
		return true
	}
	if len(labels) > 1 && slices.Contains(clouds, last()) {
		labels = labels[:len(labels)-1]
	}
	if !strings.Contains(last(), "-") || strings.Contains(strings.Join(labels, ""), "_") {
		return false
	}
	return len(labels) == 1 || len(labels) == 2 && !slices.Contains([]string{privatelink, "global"}, strings.ToLower(labels[0]))
}

// locator matches an account's locator as Snowflake makes them.
var locator = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?i)^[a-z]{2,3}[0-9]{5}$`) })

// isOrganization reports whether name, before a dot, can be an organization. After a locator comes a region, which in SHOW
// REGIONS has no hyphen. PUBLIC precedes a region there.
func isOrganization(name string) bool {
	return !strings.ContainsAny(name, "-_") && !locator().MatchString(name) && !strings.EqualFold(name, "public")
}

// isAccountName reports whether labels are an account's name in an organization, perhaps with .privatelink.
func isAccountName(labels []string) bool {
	if strings.Contains(labels[0], "-") || slices.Contains(clouds, strings.ToLower(labels[0])) {
		return false
	}
	return len(labels) == 1 || len(labels) == 2 && strings.EqualFold(labels[1], privatelink)
}

// IsHost reports whether a is the name of a host, because no identifier leads to that host.
func (a Account) IsHost() bool { return IsSnowflakeHost(string(a)) }

// Label returns the first part of the identifier, which drivers take for the account.
func (a Account) Label() string {
	name, _, _ := strings.Cut(string(a), ".")
	return name
}

// Name returns the account as login tokens name it, in upper case.
func (a Account) Name() string {
	name, rest, _ := strings.Cut(string(a), ".")
	if global, _, _ := strings.Cut(rest, "."); strings.EqualFold(global, "global") {
		if i := strings.LastIndex(name, "-"); i > 0 {
			name = name[:i] // what follows is of the connection
		}
	}
	return strings.ToUpper(name)
}

// Host returns the name of the account's host, "" for no account. It has hyphens where the account has underscores.
func (a Account) Host() string {
	host := strings.ToLower(strings.ReplaceAll(string(a), "_", "-"))
	_, region, _ := strings.Cut(host, ".")
	switch {
	case host == "":
		return ""
	case IsSnowflakeHost(host):
		return host
	case strings.HasPrefix(region, "cn-"):
		return host + chinasDomain
	default:
		return host + domain
	}
}
