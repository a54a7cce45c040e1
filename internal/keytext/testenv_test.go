package keytext_test

import _ "github.com/snowkey/snowkey/internal/tools/testenv"
