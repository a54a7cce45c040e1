package fleetsim

import _ "github.com/snowkey/snowkey/internal/testenv"
