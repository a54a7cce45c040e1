package localsnowflake

import (
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/snowkey/snowkey/internal/tools/testkey"
)

// FuzzJWT looks for a token that gets somebody in without the key. The fuzzer does not have it.
func FuzzJWT(f *testing.F) {
	s := New(WithAccount("LOCAL"))
	s.CreateUser("SVC")
	owner := testkey.Key(0)
	s.SetPublicKey("SVC", 1, &owner.RSA().PublicKey)
	for _, claims := range []jwt.MapClaims{
		{"iss": "LOCAL.SVC." + owner.Fingerprint(), "sub": "LOCAL.SVC", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()},
		{"iss": "LOCAL.SVC.X.SHA256:", "sub": 1, "iat": "x", "exp": 1e300},
	} {
		for _, method := range []jwt.SigningMethod{jwt.SigningMethodRS256, jwt.SigningMethodRS512} {
			stranger, err := jwt.NewWithClaims(method, claims).SignedString(testkey.Key(1).RSA())
			if err != nil {
				f.Fatal(err)
			}
			f.Add(stranger)
		}
		unsigned, err := jwt.NewWithClaims(jwt.SigningMethodNone, claims).SignedString(jwt.UnsafeAllowNoneSignatureType)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(unsigned)
		asPassword, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(owner.Fingerprint()))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(asPassword)
	}
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		if code := s.verify(parseJWT(token), maxStatementAge); code == 0 {
			t.Fatalf("accepted: %q", token)
		}
	})
}
