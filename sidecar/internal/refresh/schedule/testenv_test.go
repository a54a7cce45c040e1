package schedule

import _ "github.com/snowkey/snowkey/internal/testenv"
