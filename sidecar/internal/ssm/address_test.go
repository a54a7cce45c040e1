package ssm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

// nowhere is AWS with nothing set but credentials.
func nowhere(t *testing.T) {
	t.Helper()
	newAccount(t, "")
	for _, variable := range []string{"AWS_ENDPOINT_URL_SSM", "AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"} {
		t.Setenv(variable, "") // restores it
		os.Unsetenv(variable)
	}
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "config"))
	t.Setenv("HOME", t.TempDir())
}

func TestRegion_WrongFormNamesTheRightOne(t *testing.T) {
	for _, tc := range []struct{ source, written, says string }{
		{"env file, a space behind", "us-east-1 ", "write us-east-1"},
		{"env file of Windows", "us-east-1\r", "write us-east-1"},
		{"docker --env-file, quotes", `"us-east-1"`, "write us-east-1"},
		{"shell, single quotes", "'eu-central-1'", "write eu-central-1"},
		{"capitals", "EU-WEST-1", "write eu-west-1"},
		{"enum of AWS CDK and Java", "EU_WEST_1", "write eu-west-1"},
		{"words", "us east 1", "write us-east-1"},
		{"as Google Cloud writes it", "eu-west1", "write eu-west-1"},
		{"availability zone", "eu-west-1a", "write eu-west-1"},
		{"availability zone of GovCloud", "us-gov-west-1b", "write us-gov-west-1"},
		{"local zone", "us-west-2-lax-1a", "write us-west-2"},
		{"wavelength zone", "us-east-1-wl1-bos-wlz-1", "write us-east-1"},
		{"FIPS, as older SDKs name it", "us-east-1-fips", "write us-east-1, and AWS_USE_FIPS_ENDPOINT=true"},
		{"FIPS, as Terraform names it", "fips-us-east-1", "write us-east-1, and AWS_USE_FIPS_ENDPOINT=true"},
		{"the console's name", "Europe (Ireland)", "write one such as eu-west-1"},
		{"id of an availability zone", "use1-az1", "write one such as eu-west-1"},
		{"a global endpoint", "aws-global", "write one such as eu-west-1"},
		{"a template that was not filled in", "${AWS_REGION}", "write one such as eu-west-1"},
		{"a secret in the wrong place", secretSetting, "write one such as eu-west-1"},
		{"a secret with a zone in it", "us-east-1a " + secretSetting, "write one such as eu-west-1"},
	} {
		for _, variable := range []string{"AWS_REGION", "AWS_DEFAULT_REGION"} {
			t.Run(tc.source+" in "+variable, func(t *testing.T) {
				nowhere(t)
				t.Setenv(variable, tc.written)
				refusesSetting(t, variable+" is not a Region as AWS writes it; "+tc.says)
			})
		}
	}
	nowhere(t)
	config := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(config, []byte("[default]\nregion = eu-west-1a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CONFIG_FILE", config)
	refusesSetting(t, "the region in the AWS configuration file is not a Region as AWS writes it; write eu-west-1")
}

// refusesSetting wants the whole error to be about the setting.
func refusesSetting(t *testing.T, want string) {
	t.Helper()
	if _, err := openReading(t.Context(), Parameters{Key: "/app/key"}); err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestRegion_OfEveryPartitionIsTaken(t *testing.T) {
	for _, region := range []string{
		"us-east-1", "ap-southeast-5", "mx-central-1", "il-central-1", "cn-northwest-1", "us-gov-east-1",
		"us-iso-east-1", "us-isob-east-1", "us-isof-south-1", "eu-isoe-west-1", "eusc-de-east-1",
	} {
		nowhere(t)
		t.Setenv("AWS_REGION", region)
		if _, err := openReading(t.Context(), Parameters{Key: "/app/key"}); err != nil {
			t.Errorf("%s: %v", region, err)
		}
	}
}

func TestEndpoint_WrongFormIsRefused(t *testing.T) {
	const form, user = "is not the address of an endpoint; write https://HOST or http://HOST:PORT", "has a user or a password in it"
	for _, tc := range []struct{ source, written, says string }{
		{"no scheme", "ssm.eu-west-1.amazonaws.com", form},
		{"no scheme, a VPC endpoint", "vpce-0123-abcd.ssm.eu-west-1.vpce.amazonaws.com", form},
		{"no scheme, with a port, LocalStack", "localhost:4566", form},
		{"no scheme, an IP address", "127.0.0.1:4566", form},
		{"//", "//localhost:4566", form},
		{"one slash", "http:/localhost:4566", form},
		{"another scheme", "tcp://localhost:4566", form},
		{"docker --env-file, quotes", `"http://localhost:4566"`, form},
		{"env file of Windows", "http://localhost:4566\r", form},
		{"a space behind", "http://localhost:4566 ", form},
		{"a port that is none", "http://localhost:ssm", form},
		{"a scheme alone", "https://", form},
		{"user and password", "https://u:" + secretSetting + "@localhost", user},
		{"a user alone", "https://" + secretSetting + "@localhost", user},
		{"a password, and no scheme", "u:" + secretSetting + "@localhost", form},
	} {
		for _, variable := range []string{"AWS_ENDPOINT_URL_SSM", "AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"} {
			t.Run(tc.source+" in "+variable, func(t *testing.T) {
				nowhere(t)
				t.Setenv("AWS_REGION", "us-east-1")
				t.Setenv(variable, tc.written)
				_, err := openReading(t.Context(), Parameters{Key: "/app/key"})
				if err == nil || !strings.HasPrefix(err.Error(), variable+" "+tc.says) || strings.Contains(err.Error(), secretSetting) {
					t.Errorf("error %v", err)
				}
			})
		}
	}
}

// recorded answers no call, and remembers the host of the last one.
type recorded struct{ host string }

func (r *recorded) Do(request *http.Request) (*http.Response, error) {
	r.host = request.URL.Host
	return nil, errors.New("no route to host")
}

func TestAdvice_NamesTheHostThatWasCalled(t *testing.T) {
	for _, tc := range []struct {
		source, region string
		env            map[string]string
		want           string
	}{
		{"AWS's own", "us-east-1", nil, "ssm.us-east-1.amazonaws.com:443 (a NAT"},
		{"FIPS", "us-east-1", map[string]string{"AWS_USE_FIPS_ENDPOINT": "true"}, "ssm-fips.us-east-1.amazonaws.com:443 (a NAT"},
		{"dual-stack", "us-east-1", map[string]string{"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "ssm.us-east-1.api.aws:443 (a NAT"},
		{"GovCloud", "us-gov-west-1", nil, "ssm.us-gov-west-1.amazonaws.com:443 (a NAT"},
		{"China", "cn-north-1", nil, "ssm.cn-north-1.amazonaws.com.cn:443 (a NAT"},
		{"iso", "us-iso-east-1", nil, "ssm.us-iso-east-1.c2s.ic.gov:443 (a NAT"},
		{"iso-b", "us-isob-east-1", nil, "ssm.us-isob-east-1.sc2s.sgov.gov:443 (a NAT"},
		{"European sovereign cloud", "eusc-de-east-1", nil, "ssm.eusc-de-east-1.amazonaws.eu:443 (a NAT"},
		{"a VPC endpoint", "us-east-1", map[string]string{"AWS_ENDPOINT_URL_SSM": "https://vpce-1.example"}, "vpce-1.example:443, which AWS_ENDPOINT_URL_SSM names"},
		{"every service", "us-east-1", map[string]string{"AWS_ENDPOINT_URL": "http://local.example:4566"}, "local.example:4566, which AWS_ENDPOINT_URL names"},
		{"endpoints ignored", "us-east-1", map[string]string{"AWS_ENDPOINT_URL_SSM": "http://local.example", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, "ssm.us-east-1.amazonaws.com:443 (a NAT"},
	} {
		t.Run(tc.source, func(t *testing.T) {
			nowhere(t)
			t.Setenv("AWS_REGION", tc.region)
			for name, value := range tc.env {
				t.Setenv(name, value)
			}
			r := newReading(t, Parameters{Key: "/app/key"})
			var called recorded
			r.options = append(r.options, func(o *ssm.Options) { o.HTTPClient = &called })
			err := failedFetch(t.Context(), r)
			if failure.Class(err) != keyfile.ClassNetwork || !strings.Contains(fmt.Sprint(err), "check the way to "+tc.want) || !strings.HasPrefix(tc.want, called.host) {
				t.Errorf("%s was called, error %v", called.host, err)
			}
		})
	}
}

func TestAdvice_OfAnUnknownAuthorityNamesItsSettings(t *testing.T) {
	nowhere(t)
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	t.Setenv("AWS_REGION", "us-east-1")
	t.Setenv("AWS_ENDPOINT_URL_SSM", server.URL)
	err := failedFetch(t.Context(), newReading(t, Parameters{Key: "/app/key"}))
	if failure.Class(err) != keyfile.ClassNetwork || !strings.Contains(fmt.Sprint(err), "in AWS_CA_BUNDLE or SSL_CERT_FILE") {
		t.Errorf("error %v", err)
	}
}

const beClient = "SSM_TEST_CLIENT" // the settings of the client, a line each

// net/http reads the proxy's settings once, so a process of its own makes the calls. The first of them is to an address
// that nothing answers on most machines: what counts is that the proxy does not get it.
func TestCredentials_AreNotRequestedThroughAProxy(t *testing.T) {
	if settings := os.Getenv(beClient); settings != "" {
		for setting := range strings.SplitSeq(settings, "\n") {
			variable, value, _ := strings.Cut(setting, "=")
			t.Setenv(variable, value)
		}
		cfg, err := LoadConfig(t.Context(), Options{CallTimeout: 4 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		if _, err := cfg.Credentials.Retrieve(ctx); err == nil {
			t.Error("there are credentials")
		}
		t.Setenv("AWS_ACCESS_KEY_ID", "t")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "t")
		err = failedFetch(t.Context(), newReading(t, Parameters{Key: "/app/key"}))
		if want := "check the proxy in HTTPS_PROXY, through which ssm.us-east-1.amazonaws.com is called"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %q", err, want)
		}
		return
	}
	for source, env := range map[string]string{
		"task role in ECS":            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/v2/credentials/1",
		"EKS Pod Identity":            "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://169.254.170.23/v1/credentials",
		"EKS Pod Identity over IPv6":  "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://[fd00:ec2::23]/v1/credentials",
		"instance role":               "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE=IPv4",
		"instance role over IPv6":     "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE=IPv6",
		"an endpoint on this machine": "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:1/v1/credentials",
	} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var got []string
			proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, r.Host)
				w.WriteHeader(http.StatusForbidden) // as squid refuses such an address
			}))
			defer proxy.Close()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCredentials_AreNotRequestedThroughAProxy$", "-test.v")
			settings := []string{"HTTP_PROXY=" + proxy.URL, "HTTPS_PROXY=" + proxy.URL, "HOME=" + t.TempDir(), "AWS_REGION=us-east-1", "AWS_MAX_ATTEMPTS=1", env}
			cmd.Env = []string{beClient + "=" + strings.Join(settings, "\n")}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(got) != 1 || got[0] != "ssm.us-east-1.amazonaws.com:443" { // which shows that the proxy is used
				t.Errorf("the proxy got %q", got)
			}
		})
	}
}
