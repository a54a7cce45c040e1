//go:build clients

package clients

var rustRows = in(row{client: "Rust, snowflake-connector-rs", pin: "snowflake-connector-rs", directory: "rust", needs: "cargo", all: true},
	row{by: byPath, how: "the program reads the PEM", command: []string{"target/debug/by_path"}, oneShot: true, says: saysVersion},
)
