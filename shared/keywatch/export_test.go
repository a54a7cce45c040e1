package keywatch

import "github.com/fsnotify/fsnotify"

// WatchDir is how a directory is watched unless [WithWatchDir] says otherwise.
func WatchDir(dir string) (*fsnotify.Watcher, error) { return watchDir(dir) }

// WithWatchDir has directories watched by watch, which can fail.
func WithWatchDir(watch func(dir string) (*fsnotify.Watcher, error)) Option {
	return func(w *Watcher) { w.dir.watch = watch }
}
