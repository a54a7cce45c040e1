package exec

import (
	"context"
	"errors"

	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/daemon"
)

// Run does nothing: the sidecar refuses the command before it comes here.
func Run(context.Context, *config.ExecConfig, []string, []string, daemon.Options) error {
	return errors.ErrUnsupported
}
