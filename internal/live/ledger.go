package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A removal undoes one thing, or finds that there is nothing to undo. It is data, so that another process can do it.
type removal struct {
	What  string     `json:"what"`
	AWS   [][]string `json:"aws,omitempty"` // calls of the AWS CLI
	Stack string     `json:"stack,omitempty"`
	SQL   string     `json:"sql,omitempty"`
}

// A ledger is a file that lists what has to be removed. A removal is in it before the thing is created, so that a trial
// that is killed leaves nothing that is not listed.
type ledger struct {
	path    string
	entries ledgerFile
}

type ledgerFile struct {
	AWSProfile string    `json:"aws_profile"`
	Connection string    `json:"snowflake_connection"`
	Removals   []removal `json:"removals"`
}

// ledgers is the folder of all ledgers.
const ledgers = ".cache/live"

func newLedger(name string, s settings) (*ledger, error) {
	if err := os.MkdirAll(ledgers, 0o700); err != nil {
		return nil, err
	}
	return &ledger{filepath.Join(ledgers, name+".json"), ledgerFile{AWSProfile: s.awsProfile, Connection: s.connection}}, nil
}

func openLedger(path string) (*ledger, error) {
	l := &ledger{path: path}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &l.entries); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return l, nil
}

// leftovers are the ledgers of trials that were killed, or that could not remove everything.
func leftovers() []string {
	found, _ := filepath.Glob(filepath.Join(ledgers, "*.json"))
	return found
}

// add writes down how to remove what is about to be created.
func (l *ledger) add(r removal) error {
	l.entries.Removals = append(l.entries.Removals, r)
	return l.save()
}

func (l *ledger) save() error {
	data, err := json.MarshalIndent(l.entries, "", "  ")
	if err != nil {
		return err
	}
	beside := l.path + ".new"
	if err := os.WriteFile(beside, append(data, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(beside, l.path)
}

// A remover carries out one removal.
type remover func(context.Context, removal) error

// removeAll carries out every removal, the last thing first, whatever fails meanwhile. What could not be removed stays in
// the file.
func (l *ledger) removeAll(ctx context.Context, remove remover) error {
	var left []removal
	var failed []error
	for _, r := range slices.Backward(l.entries.Removals) {
		fmt.Printf("  removing %s\n", r.What)
		if err := persist(ctx, r, remove); err != nil {
			left = append(left, r)
			failed = append(failed, fmt.Errorf("%s is still there: %w", r.What, err))
		}
	}
	slices.Reverse(left)
	l.entries.Removals = left
	if len(left) == 0 {
		return os.Remove(l.path)
	}
	return errors.Join(errors.Join(failed...), l.save(),
		fmt.Errorf("remove the rest with: go run ./internal/live -remove %s", l.path))
}

// removalAttempts and removalPause are for things that AWS still counts as in use for a moment.
var removalPause = 5 * time.Second

const removalAttempts = 4

func persist(ctx context.Context, r removal, remove remover) error {
	var err error
	for range removalAttempts {
		if err = remove(ctx, r); err == nil || isGone(err) {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(removalPause):
		}
	}
	return err
}

// gone are AWS's words for a thing that is not there. Snowflake has IF EXISTS.
var gone = []string{
	"ParameterNotFound", "NoSuchEntity", "ResourceNotFoundException", "RepositoryNotFoundException", "ClusterNotFoundException",
}

func isGone(err error) bool {
	return slices.ContainsFunc(gone, func(word string) bool { return strings.Contains(err.Error(), word) })
}

// removeLeftovers removes what a trial that was killed has left.
func removeLeftovers(ctx context.Context, path string) error {
	l, err := openLedger(path)
	if err != nil {
		return fmt.Errorf("%w; there are: %s", err, strings.Join(leftovers(), " "))
	}
	t, err := newTrial(ctx, settings{awsProfile: l.entries.AWSProfile, connection: l.entries.Connection})
	if err != nil {
		return err
	}
	defer t.close()
	t.ledger = l
	return t.removeAll()
}

// printable is the JSON of a value, for a file that a command reads.
func printable(value any) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(value)
	return out.Bytes()
}
