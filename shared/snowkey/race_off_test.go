//go:build !race

package snowkey

const raceEnabled = false
