package identity_test

import _ "github.com/snowkey/snowkey/internal/tools/testenv"
