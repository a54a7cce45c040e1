package config_test

import (
	"strings"
	"testing"
	"time"
)

func TestKeySettings_SeveralKeysWithoutLineBreaks(t *testing.T) {
	const etl, report = `name=etl,key-parameter=/k,user=CORP\nina`, "name=report,key-parameter=/k2"
	for source, written := range map[string]string{
		"task definition, JSON's own \\n":         etl + "\n" + report,
		"docker --env-file":                       etl + `\n` + report,
		"ECS environmentFiles":                    etl + `\n` + report + `\n`,
		"docker --env-file, quotes":               `"` + etl + `\n` + report + `"`,
		"env file of Windows":                     etl + `\r\n` + report + "\r",
		"JSON in a template, escaped twice":       etl + `\\n` + report,
		"YAML, escaped twice, of Windows":         etl + `\\r\\n` + report,
		"one line":                                etl + ";" + report,
		"one line, spaces and a semicolon behind": etl + " ; " + report + " ;",
		"one line, an empty entry":                etl + ";;" + report,
		"one line, a comment":                     `# ours\n` + etl + `;# theirs;` + report,
		"systemd EnvironmentFile, single quotes":  "'" + etl + ";" + report + "'",
		"fields in another order":                 etl + `;key-parameter = /k2,name=report`,
	} {
		c, err := load(t, nil, "SNOWKEY_KEYS="+written)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if len(c.Keys) != 2 || c.Keys[0].Name != "etl" || c.Keys[0].Snowflake.User != `CORP\nina` || c.Keys[1].Name != "report" || c.Keys[1].KeyParameter != "/k2" {
			t.Errorf("%s: %+v", source, c.Keys)
		}
	}
}

func TestLoad_TakesQuotesAndSpacesOfAnEnvFileOff(t *testing.T) {
	for source, around := range map[string][2]string{
		"docker --env-file, double quotes":      {`"`, `"`},
		"ECS environmentFiles, single quotes":   {`'`, `'`},
		"an env file of Windows":                {"", "\r"},
		"an env file of Windows, with quotes":   {`"`, "\"\r"},
		"a space at the end of the line":        {"", " "},
		"a space after =, as in an ini file":    {" ", ""},
		"a secret from a file with a line feed": {"", "\n"},
	} {
		written := func(value string) string { return around[0] + value + around[1] }
		c, err := load(t, nil, "SNOWKEY_KEY_PARAMETER="+written("/k"), "SNOWKEY_INTERVAL="+written("1m"), "SNOWKEY_DIR="+written("/d"),
			"SNOWKEY_REQUIRE_TMPFS="+written("true"), "SNOWFLAKE_PORT="+written("443"))
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if c.Keys[0].KeyParameter != "/k" || c.Interval != time.Minute || c.Dir != "/d" || !c.RequireTmpfs || c.Keys[0].Snowflake.Port != 443 {
			t.Errorf("%s: %+v", source, c)
		}
	}
	for _, wrong := range []string{`"soon"`, `"1m`, `""`, `1m"`} {
		if _, err := load(t, nil, "SNOWKEY_KEY_PARAMETER=/k", "SNOWKEY_INTERVAL="+wrong); err == nil || !strings.Contains(err.Error(), "SNOWKEY_INTERVAL=") {
			t.Errorf("%s: error %v", wrong, err)
		}
	}
	if _, err := load(t, []string{"--key-parameter=/k", `--dir="/d"`}); err == nil {
		t.Error("a flag's quotes are taken off: its shell has done so")
	}
}
