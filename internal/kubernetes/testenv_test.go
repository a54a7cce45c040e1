package kubernetes

import _ "github.com/snowkey/snowkey/internal/testenv"
