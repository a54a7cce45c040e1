//go:build clients

package clients

import _ "github.com/snowkey/snowkey/internal/tools/testenv"
