package supervise

import _ "github.com/snowkey/snowkey/internal/testenv"
