package e2e

import _ "github.com/snowkey/snowkey/internal/tools/testenv"
