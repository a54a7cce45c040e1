package decrypt

import _ "github.com/snowkey/snowkey/internal/testenv"
