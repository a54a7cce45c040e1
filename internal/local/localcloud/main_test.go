package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestReadPublicKey_RefusesWhatSnowflakeRefuses(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // too short on purpose
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&weak.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.pub")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readPublicKey(path); err == nil || !strings.Contains(err.Error(), "2048") {
		t.Errorf("a key of 1024 bits: %v", err)
	}
}

func TestNewSnowflake_EngineIsTheURLOfAServer(t *testing.T) {
	for _, engine := range []string{"", "http://127.0.0.1:8090", "https://engine", "http://engine/"} {
		s, err := newSnowflake(options{sqlEngine: engine, sqlTimeout: time.Minute})
		if err != nil {
			t.Errorf("%q: %v", engine, err)
			continue
		}
		s.Close()
	}
	for _, engine := range []string{"127.0.0.1:8090", "engine", "ftp://engine", "http://", "http://engine/path", "http://user:secret@engine", "http://engine?a", "http://engine#a", "http://%"} {
		if _, err := newSnowflake(options{sqlEngine: engine, sqlTimeout: time.Minute}); err == nil {
			t.Errorf("%q is taken", engine)
		}
	}
	if _, err := newSnowflake(options{sqlEngine: "http://engine", sqlTimeout: 0}); err == nil {
		t.Error("a timeout of 0 is taken")
	}
}

func TestNewSSM_KMSKeyIsAnAlias(t *testing.T) {
	for _, key := range []string{"", "alias/app", "alias/team/app"} {
		if _, err := newSSM(options{kmsKey: key}); err != nil {
			t.Errorf("%q: %v", key, err)
		}
	}
	for _, key := range []string{"app", "alias/", "alias/aws/ssm", "arn:aws:kms:us-east-1:123456789012:alias/app"} {
		if _, err := newSSM(options{kmsKey: key}); err == nil {
			t.Errorf("%q is taken", key)
		}
	}
}
