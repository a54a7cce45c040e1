package doctable

import _ "github.com/snowkey/snowkey/internal/tools/testenv"
