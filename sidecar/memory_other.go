//go:build !linux

package main

func closeMemory() {}
