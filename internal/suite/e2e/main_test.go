//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	code, err := withStack(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

// withStack runs the tests while what docker-compose.yml describes is up.
func withStack(m *testing.M) (code int, err error) {
	ctx := context.Background()
	if os.Getuid() != 0 {
		return 1, errors.New("only root can read the engine's disk and the containers' mounts: run make e2e as root")
	}
	began := time.Now()
	if _, err := compose(ctx, "build"); err != nil {
		return 1, err
	}
	fmt.Printf("images built in %v\n", time.Since(began).Round(time.Second))
	if err := down(ctx); err != nil { // what a run that was killed left behind
		return 1, err
	}
	defer func() { err = errors.Join(err, down(ctx)) }()
	if out, err := compose(ctx, "up", "-d"); err != nil {
		logs, _ := compose(ctx, "logs", "--no-color", "--tail", "20")
		return 1, fmt.Errorf("%w\n%s\n%s", err, out, logs)
	}
	code = m.Run()
	if code != 0 {
		logs, _ := compose(ctx, "logs", "--no-color", "--tail", "20")
		fmt.Println(logs)
	}
	return code, nil
}

func down(ctx context.Context) error {
	_, err := compose(ctx, "down", "--volumes", "--remove-orphans", "--timeout", "5")
	return err
}
