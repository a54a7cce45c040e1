// Package faults breaks what is around the real sidecar and the real consumer, one thing at a time, while
// queries run and readers read: Parameter Store, Snowflake, where credentials come from, names, certificates,
// the volume, the clock, the processes themselves. It has tests only, behind the build tag faults:
// make test-faults. What they find is the table in docs/operations.md.
//
// It puts itself into a user, mount and network namespace of its own, so that it needs no root, mounts
// nothing that others see, and reaches nothing but itself. It never passes because something was missing:
// where a namespace, a cgroup or strace is not to be had, the case is skipped with the reason, and the table
// is not written if that is a row of it.
package faults
