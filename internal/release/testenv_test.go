//go:build release

package release

import _ "github.com/snowkey/snowkey/internal/testenv"
