//go:build clients

package clients

var nodeRows []row
