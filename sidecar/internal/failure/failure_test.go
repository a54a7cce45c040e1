package failure

import (
	"errors"
	"slices"
	"testing"

	"github.com/snowkey/snowkey/shared/keyfile"
)

func TestPermanent_RefusalsOfTheKeyAndOfItsSource(t *testing.T) {
	source := []keyfile.ErrorClass{keyfile.ClassNotFound, keyfile.ClassAccessDenied, keyfile.ClassKMS}
	for _, class := range keyfile.ErrorClasses {
		err := New(class, errors.New("cause"), "")
		if want := slices.Contains(KeyRefusals, class); KeyRefused(err) != want || Permanent(err) != (want || slices.Contains(source, class)) {
			t.Errorf("%s: about a key: %v, permanent: %v", class, KeyRefused(err), Permanent(err))
		}
	}
	if KeyRefused(nil) || Permanent(nil) {
		t.Error("no error is a refusal")
	}
}
