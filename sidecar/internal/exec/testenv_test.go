package exec

import _ "github.com/snowkey/snowkey/internal/testenv"
