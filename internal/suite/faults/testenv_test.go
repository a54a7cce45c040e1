//go:build faults

package faults

import _ "github.com/snowkey/snowkey/internal/tools/testenv"
