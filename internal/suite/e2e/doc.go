// Package e2e runs the images of docker-compose.yml on a real engine and watches them from outside, as
// somebody would who wants to find the key. It has tests only, behind the build tag e2e: make e2e.
//
// It needs the engine of this machine, and root, to read the engine's disk and the mounts of the
// containers. It never passes because something was missing.
package e2e
