package harden

import (
	"bytes"
	"os"
	"strings"
	"unsafe"
)

// Forget overwrites the values of the secret variables, in environ, which has to be the process's own, and in the block
// that the kernel shows in /proc/PID/environ, where the names stay. It also unsets them: the SDK passes all variables to
// a credential_process, and no program can be started with an overwritten one.
func Forget(environ []string, isSecret func(name string) bool) {
	for entry := range bytes.SplitSeq(environmentBlock(), []byte{0}) {
		if name, value, _ := bytes.Cut(entry, []byte("=")); isSecret(string(name)) {
			clear(value)
		}
	}
	for _, entry := range environ {
		if name, value, _ := strings.Cut(entry, "="); isSecret(name) {
			clear(unsafe.Slice(unsafe.StringData(value), len(value)))
			_ = os.Unsetenv(name)
		}
	}
}
