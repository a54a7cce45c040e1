// Package wrappers tests shared/snowkey under the libraries that programs put around a database: tracing
// wrappers, golang-migrate, sqlx, gorm, and gosnowflake 1 in the same program. It uses the libraries themselves, in
// the versions that go.mod names, against internal/local/localsnowflake.
//
// It is a module of its own, so that none of these libraries gets into the module that others import.
//
// It never contains anything but tests and a program for them, nothing imports it, and it never talks to
// Snowflake or to any other machine.
package wrappers
