package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

func TestValue_PrintsNowhere(t *testing.T) {
	v := secret.New([]byte("hunter2"))
	holder := struct {
		Open   secret.Value
		hidden secret.Value
	}{v, v}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+"\n", v)
		fmt.Fprintf(&out, verb+"\n", &v)
		fmt.Fprintf(&out, verb+"\n", holder)
		fmt.Fprintf(&out, verb+"\n", &holder)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "secret", v, "holder", holder)
	if err := json.NewEncoder(&out).Encode(holder); err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{"hunter2", "68756e74", "104 117", "aHVudGVy"} {
		if strings.Contains(out.String(), form) {
			t.Errorf("%q is in the output:\n%s", form, &out)
		}
	}
}

func TestValue_EmptyIsNotUnset(t *testing.T) {
	if !secret.New(nil).IsSet() || (secret.Value{}).IsSet() {
		t.Error("an empty secret and none are the same")
	}
}

func TestClone_SurvivesClear(t *testing.T) {
	v := secret.New([]byte("hunter2"))
	c := v.Clone()
	v.Clear()
	if string(c.Bytes()) != "hunter2" || bytes.Contains(v.Bytes(), []byte("h")) {
		t.Errorf("after Clear the secret is %q and its clone %q", v.Bytes(), c.Bytes())
	}
}
