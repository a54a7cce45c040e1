package ssm

import (
	"errors"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/snowkey/snowkey/sidecar/internal/lazyregexp"
)

// profileSettings are the settings of a profile that the SDK may reject.
var profileSettings = []string{
	"account_id_endpoint_mode", "ca_bundle", "credential_process", "credential_source", "defaults_mode", "disable_request_compression",
	"ec2_metadata_service_endpoint_mode", "ec2_metadata_v1_disabled", "max_attempts", "request_checksum_calculation", "request_min_compression_size_bytes",
	"response_checksum_validation", "retry_mode", "role_arn", "source_profile", "sso_account_id", "sso_region", "sso_role_name", "sso_session",
	"sso_start_url", "use_dualstack_endpoint", "use_fips_endpoint", "web_identity_token_file",
}

var variablePattern = lazyregexp.New(`\bAWS_[A-Z0-9_]+`)

// settingsError says which setting is wrong. The SDK's text repeats lines of files, and is not shown at all.
func settingsError(err error) error {
	text := err.Error()
	if _, ok := errors.AsType[config.SharedConfigProfileNotExistError](err); ok {
		return errors.New("AWS settings: there is no profile of the name in AWS_PROFILE")
	}
	if strings.Contains(text, "role ARN is not set") && os.Getenv(webIdentityFile) != "" {
		return errors.New("AWS settings: " + webIdentityFile + " is set and AWS_ROLE_ARN is not; set it, or annotate the service account with eks.amazonaws.com/role-arn")
	}
	for _, name := range variablePattern().FindAllString(text, -1) {
		if _, set := os.LookupEnv(name); set {
			return errors.New("AWS settings: " + name + " is not valid")
		}
	}
	for _, name := range profileSettings {
		if strings.Contains(text, name) {
			return errors.New("AWS settings: " + name + " of the profile is not valid")
		}
	}
	if os.Getenv(agentURI) != "" && (strings.Contains(text, "invalid URL") || strings.Contains(text, "host")) {
		return errors.New("AWS settings: " + agentURI + " is not the address of a credentials endpoint on this machine")
	}
	if strings.Contains(text, "partial credentials") {
		return errors.New("AWS settings: the profile has a part of its credentials only")
	}
	return errors.New("AWS settings: one of them is not valid")
}
