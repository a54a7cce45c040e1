//go:build clients

package clients

var javaRows []row
