package main

import _ "github.com/snowkey/snowkey/internal/tools/testenv"
