package main

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// A contestant is something that puts the key on disk.
type contestant struct {
	name    string
	command []string // {dir} is the directory for the key
	path    string   // PATH, if it needs more than the system's
	endless bool     // it goes on; its processor time counts until the key is there
	slow    bool     // it takes seconds
	program string   // whose size counts; "" if there is not one

	starts []start
}

// A start is what one took.
type start struct {
	wall, processor time.Duration
	peak            int // bytes
}

const systemPath = "/usr/local/bin:/usr/bin:/bin"

// contestants begins with the floor, to which the others are compared.
func (w *fixture) contestants(aws, vals string) []*contestant {
	file := "{dir}/" + keyfile.DER.FileName()
	own := func(name, title string) *contestant {
		return &contestant{name: title, command: []string{w.program(name), keyParameter, passphraseParameter, file}, program: w.program(name)}
	}
	sidecar := func(command string) *contestant {
		return &contestant{
			name:    "`sidecar " + command + "`",
			command: []string{w.program("sidecar"), command, "--key-parameter=" + keyParameter, "--passphrase-parameter=" + passphraseParameter, "--dir={dir}"},
			program: w.program("sidecar"),
			endless: command == "run",
		}
	}
	all := []*contestant{own("floor", "the floor"), own("plainsdk", "a plain program with the AWS SDK"), sidecar("once"), sidecar("run")}
	script := func(title, name, program string) *contestant {
		return &contestant{
			name:    title,
			command: []string{filepath.Join(w.root, "scripts/bench", name), keyParameter, passphraseParameter, file},
			path:    filepath.Dir(program) + ":" + systemPath,
		}
	}
	if vals != "" {
		c := script("vals and openssl", "vals.sh", vals)
		c.program = vals
		all = append(all, c)
	}
	if aws != "" {
		c := script("the AWS CLI and openssl", "aws.sh", aws)
		c.slow = true
		all = append(all, c)
	}
	return all
}

// race starts each in turn, round for round, so that what the machine does besides meets all of them.
func (w *fixture) race(ctx context.Context, all []*contestant, rounds int) error {
	for r := range rounds {
		for _, c := range all {
			if c.slow && r%5 != 0 {
				continue
			}
			s, err := w.start(ctx, c)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			c.starts = append(c.starts, s)
		}
	}
	return nil
}

// start starts it once, in an empty directory, and checks that it wrote the key.
func (w *fixture) start(ctx context.Context, c *contestant) (s start, err error) {
	dir, err := os.MkdirTemp(w.keys, "key-")
	if err != nil {
		return s, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, keyfile.DER.FileName())
	args := []string{file}
	if c.endless {
		args = []string{"-end", file}
	}
	for _, a := range c.command {
		args = append(args, strings.ReplaceAll(a, "{dir}", dir))
	}
	cmd := exec.CommandContext(ctx, w.program("stopwatch"), args...)
	cmd.Env = w.environment(c.pathOrSystems())
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return s, err
	}
	var wall, processor, peak int
	if _, err := fmt.Sscan(string(out), &wall, &processor, &peak); err != nil {
		return s, fmt.Errorf("the stopwatch printed %q: %w", out, err)
	}
	if _, err := keyfile.Read(file); err != nil {
		return s, err
	}
	return start{time.Duration(wall) * time.Microsecond, time.Duration(processor) * time.Microsecond, peak << 10}, nil
}

func (c *contestant) pathOrSystems() string {
	if c.path != "" {
		return c.path
	}
	return systemPath
}

// median is that of one figure of all starts.
func (c *contestant) median(figure func(start) float64) float64 {
	all := make([]float64, len(c.starts))
	for i, s := range c.starts {
		all[i] = figure(s)
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func wall(s start) float64      { return s.wall.Seconds() }
func processor(s start) float64 { return s.processor.Seconds() }
func peak(s start) float64      { return float64(s.peak) }

// size is that of a file, and as gzip makes it, which is how registries store it.
func size(path string) (plain, compressed int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	var count counter
	z, err := gzip.NewWriterLevel(&count, gzip.BestCompression)
	if err != nil {
		return 0, 0, err
	}
	if plain, err = io.Copy(z, f); err != nil {
		return 0, 0, err
	}
	err = z.Close()
	return plain, int64(count), err
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
