package main

import (
	"testing"
	"time"
)

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
