package snowkey

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/identity"
)

// readAddress normalizes user, host and account as the sidecar does. The driver reads fewer forms.
func readAddress(cfg *gosnowflake.Config) error {
	var err error
	if cfg.User, err = identity.ParseUser(cfg.User); err != nil {
		return fmt.Errorf("snowkey: Config.User: %w", err)
	}
	host, port, err := identity.ParseHost(cfg.Host)
	if err != nil {
		return fmt.Errorf("snowkey: Config.Host: %w", err)
	}
	if port != 0 && cfg.Port != 0 && port != cfg.Port {
		return fmt.Errorf("snowkey: Config.Host has port %d, and Config.Port is %d: leave one of them out", port, cfg.Port)
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if err := identity.CheckProtocol(cfg.Protocol, host); err != nil {
		return fmt.Errorf("snowkey: Config.Protocol: %w", err)
	}
	hostsAccount := identity.AccountOfHost(cfg.Host)
	cfg.Host, cfg.Port = host, max(port, cfg.Port)
	account, err := identity.ParseAccount(cfg.Account)
	if err == nil && cfg.Region != "" && host == "" && !strings.Contains(string(account), ".") {
		account, err = identity.ParseAccount(string(account) + "." + cfg.Region)
	}
	if err != nil {
		return fmt.Errorf("snowkey: Config.Account: %w", err)
	}
	if account = cmp.Or(account, hostsAccount); account == "" {
		return nil // the driver takes the account from the host, or says that there is none
	}
	cfg.Account = account.Label()
	if host == "" {
		cfg.Host, cfg.Region = account.Host(), ""
	}
	if isGlobal(cfg.Host) {
		cfg.Account = "" // the driver cuts what it finds here, and ParseDSN has done so once
	}
	return nil
}

// isGlobal reports whether host is that of a connection, which can move to another account.
func isGlobal(host string) bool {
	return identity.IsSnowflakeHost(host) && strings.Contains(strings.ToLower(host), ".global.")
}
