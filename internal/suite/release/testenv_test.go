//go:build release

package release

import _ "github.com/snowkey/snowkey/internal/tools/testenv"
