package metrics

import _ "github.com/snowkey/snowkey/internal/testenv"
