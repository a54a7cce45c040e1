// Command licenses writes for each program that goes into an image what modules of others it contains,
// and the licences and notices that have to accompany them: licenses/PROGRAM.txt. The images and the
// release carry these files.
//
// It fails on a module without a licence, and on a licence that nobody has agreed to.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := run("licenses"); err != nil {
		fmt.Fprintln(os.Stderr, "licenses:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, p := range programs {
		text, err := p.thirdParty()
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, p.name+".txt"), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
