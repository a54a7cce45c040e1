package platform

import _ "github.com/snowkey/snowkey/internal/testenv"
