package ssm

import _ "github.com/snowkey/snowkey/internal/testenv"
