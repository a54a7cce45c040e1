// Package wrappers tests shared/snowkey under the libraries that programs put around a database: tracing wrappers,
// golang-migrate, sqlx, gorm, and gosnowflake 1 in the same program. Its examples show how a program uses OpenTelemetry,
// sqlx and gorm. It uses the libraries themselves, in the versions that go.mod names, with internal/local/localsnowflake.
//
// It is a module of its own, so that none of these libraries becomes a dependency of the module that others import.
//
// It contains only tests, examples and a program for the tests. Nothing imports it, and it never connects to Snowflake or
// to any other machine.
package wrappers
