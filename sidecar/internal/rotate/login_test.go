package rotate

import (
	"testing"

	"github.com/snowkey/snowkey/internal/tools/testkey"
)

func TestRun_LoginNameUnlikeName(t *testing.T) {
	t.Parallel()
	const name = `"Svc ""ETL"""`
	f := newFixture(t)
	f.snowflake.UnsetPublicKey("svc", 1)
	f.snowflake.CreateUserWithLogin(name, "etl@corp.example")
	f.snowflake.SetPublicKey(name, 1, &testkey.Key(0).RSA().PublicKey)
	p := f.process()
	p.Snowflake.Login = "etl@corp.example"
	result, err := p.run()
	if err != nil || result.Outcome != Rotated {
		t.Fatalf("outcome %s, error %v", result.Outcome, err)
	}
	_, inUse := f.inUse()
	if slots := f.snowflake.Fingerprints(name); slots != [2]string{"", inUse} || inUse == testkey.Key(0).Fingerprint() {
		t.Errorf("the slots have %v, and %s is in use", slots, inUse)
	}
}
