package keywatch

import "github.com/fsnotify/fsnotify"

// WatchDir watches a directory, as the Watcher does without [WithWatchDir].
func WatchDir(dir string) (*fsnotify.Watcher, error) { return watchDir(dir) }

// WithWatchDir replaces [WatchDir] by watch, which can fail.
func WithWatchDir(watch func(dir string) (*fsnotify.Watcher, error)) Option {
	return func(o *options) { o.watch = watch }
}
