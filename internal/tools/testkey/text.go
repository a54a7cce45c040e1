package testkey

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// Base64 is text in standard base64.
func Base64(text []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(text)) }

// UTF16 is text of ASCII in UTF-16, little-endian.
func UTF16(text []byte) []byte {
	return []byte(strings.Join(strings.Split(string(text), ""), "\x00") + "\x00")
}

// Hex writes each byte in a format, with a separator between them.
func Hex(der []byte, form, between string) string {
	var bytes []string
	for _, b := range der {
		bytes = append(bytes, fmt.Sprintf(form, b))
	}
	return strings.Join(bytes, between)
}
