//go:build !unix

package testenv

func setUmask() {}

func heedHangup() {}
