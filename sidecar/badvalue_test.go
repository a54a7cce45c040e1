package main

import (
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/snowkey/snowkey/internal/local/localssm"
	"github.com/snowkey/snowkey/shared/keyfile"
)

// A bad input is something that goes wrong after a good key was published.
type badInput struct {
	name  string
	spoil func(*task)
	exit  int // of `once`
	class keyfile.ErrorClass
	says  []string
}

// badValues may be stored while a task runs.
var badValues = []badInput{
	{"a wrong passphrase", put(passParameter, wrongPassphrase), exitRefused, keyfile.ClassPassphrase,
		[]string{"passphrase does not open the key", "openssl pkey -in KEY.p8 -noout,", "belong together"}},
	{"a passphrase pasted for the key", put(keyParameter, notAKey), exitRefused, keyfile.ClassUnreadableKey,
		[]string{keyParameter + ": the value is neither PEM nor base64", "from -----BEGIN to -----END", "swap --key-parameter and --passphrase-parameter"}},
	{"the longest value there is", put(keyParameter, strings.Repeat(notAKey, 8192/len(notAKey))), exitRefused, keyfile.ClassUnreadableKey,
		[]string{"neither PEM nor base64", "from -----BEGIN to -----END"}},
	{"nothing but white space", put(keyParameter, " \n"), exitRefused, keyfile.ClassUnreadableKey,
		[]string{"the value is empty", "from -----BEGIN to -----END"}},
	{"a truncated PEM", putFile("truncated"), exitRefused, keyfile.ClassUnreadableKey,
		[]string{"truncated", "no END ENCRYPTED PRIVATE KEY line", "store the whole file again"}},
	{"a PEM that lacks lines", putFile("truncated-inside"), exitRefused, keyfile.ClassUnreadableKey,
		[]string{"truncated", "store the whole file again"}},
	{"an EC key", putFile("ec.pem"), exitRefused, keyfile.ClassUnreadableKey,
		[]string{"a key of type EC", "RSA only", "openssl genrsa 2048"}},
	{"a key of 1024 bits", putFile("rsa1024.pem"), exitRefused, keyfile.ClassUnreadableKey,
		[]string{"shorter than 2048 bits", "it has 1024", "openssl genrsa 2048"}},
	{"a certificate", putFile("certificate"), exitRefused, keyfile.ClassUnreadableKey,
		[]string{"a certificate, not a private key", "store the private key"}},
	{"a public key", putFile("public-key"), exitRefused, keyfile.ClassUnreadableKey,
		[]string{"a public key, not a private key", "store the private key"}},
	{"a cipher that is not read", putFile("camellia"), exitRefused, keyfile.ClassUnreadableKey,
		[]string{"camellia-256-cbc", "openssl pkcs8 -topk8 -v2 aes-256-cbc"}},
	{"a PKCS#12 file", putFile("pkcs12"), exitRefused, keyfile.ClassUnreadableKey,
		[]string{"PKCS#12", "openssl pkcs12 -in KEY.p12 -nocerts -aes256 -out NEW.p8"}},
	{"a JSON Web Key", putWritten("rsa.pem", asJWK), exitRefused, keyfile.ClassUnreadableKey,
		[]string{"JSON Web Key", "createPrivateKey"}},
	{"a JSON Web Key in base64", putWritten("rsa.pem", func(pem string) string { return b64(asJWK(pem)) }), exitRefused, keyfile.ClassUnreadableKey,
		[]string{"JSON Web Key", "createPrivateKey"}},
	{"a key that lost a letter", putWritten("rsa.pem", withStar), exitRefused, keyfile.ClassUnreadableKey,
		[]string{"the character '*' (U+002A) in line 4, column 5 is no base64", "as it is"}},
	{"the base64 of a key that lost a letter", putWritten("aes256.p8", func(pem string) string { return b64(withStar(pem)) }), exitRefused, keyfile.ClassUnreadableKey,
		[]string{"the character '*' (U+002A) in line 4, column 5 is no base64", "as it is"}},
	{"a passphrase in base64 pasted for the key", put(keyParameter, b64(notAKey)), exitRefused, keyfile.ClassUnreadableKey,
		[]string{"not a private key in any form known here", "from -----BEGIN to -----END"}},
	{"an ARN for the key", put(keyParameter, "arn:aws:secretsmanager:us-east-1:123456789012:secret:app/key-AbCdEf"), exitRefused, keyfile.ClassUnreadableKey,
		[]string{"the value only names a key", "ECS takes an ARN under secrets"}},
	{"a wrong passphrase in quotation marks", put(passParameter, `"`+wrongPassphrase+"\"\r\n"), exitRefused, keyfile.ClassPassphrase,
		[]string{"passphrase does not open the key", "belong together"}},
	{"a wrong passphrase in JSON and base64", put(passParameter, b64(`{"passphrase":"`+wrongPassphrase+`"}`)), exitRefused, keyfile.ClassPassphrase,
		[]string{"passphrase does not open the key", "belong together"}},
	{"openssl's own old encryption", putFile("traditional-encryption"), exitRefused, keyfile.ClassUnreadableKey,
		[]string{"DEK-Info: AES-256-CBC", "openssl pkcs8 -topk8 -v2 aes-256-cbc"}},
}

// badAnswers may come from AWS while a task runs.
var badAnswers = []badInput{
	{"no key parameter", func(k *task) { k.ssm.Delete(keyParameter) }, exitRefused, keyfile.ClassNotFound,
		[]string{"no parameter /app/key in us-east-1", "create it", "--key-parameter"}},
	{"no passphrase parameter", func(k *task) { k.ssm.Delete(passParameter) }, exitRefused, keyfile.ClassNotFound,
		[]string{"no parameter /app/pass in us-east-1", "create it", "--passphrase-parameter"}},
	{"neither parameter", func(k *task) { k.ssm.Delete(keyParameter); k.ssm.Delete(passParameter) }, exitRefused, keyfile.ClassNotFound,
		[]string{"/app/key", "/app/pass", "create"}},

	{"no permission", func(k *task) { k.ssm.DenyParameter(keyParameter) }, exitRefused, keyfile.ClassAccessDenied,
		[]string{"AccessDeniedException", "allow ssm:GetParameters", "task role", "on arn:aws:ssm:us-east-1:123456789012:parameter/app/key"}},
	{"no permission for the passphrase", func(k *task) { k.ssm.DenyParameter(passParameter) }, exitRefused, keyfile.ClassAccessDenied,
		[]string{"allow ssm:GetParameters", "and arn:aws:ssm:us-east-1:123456789012:parameter/app/pass"}},
	{"no kms:Decrypt, as KMS hides it", func(k *task) { k.ssm.DenyDecrypt(keyParameter) }, exitRefused, keyfile.ClassKMS,
		[]string{"The ciphertext refers to a customer master key", "allow kms:Decrypt", "task role", ":parameter/app/key", ":parameter/app/pass"}},
	{"no kms:Decrypt, as KMS says it", denyDecryptInWords, exitRefused, keyfile.ClassKMS,
		[]string{"not authorized to perform: kms:Decrypt", "allow kms:Decrypt", "arn:aws:kms:us-east-1:123456789012:key/1234", "arn:aws:ssm:us-east-1:123456789012:parameter/app/key"}},
	{"a disabled KMS key", func(k *task) { k.ssm.DisableKMSKey(keyParameter) }, exitRefused, keyfile.ClassKMS,
		[]string{"arn:aws:kms:us-east-1:123456789012:key/", "is disabled", "enable the KMS key"}},
	{"throttling", func(k *task) { k.ssm.Throttle(1000) }, exitFailed, keyfile.ClassThrottled,
		[]string{"Rate exceeded", "refresh less often", "higher throughput"}},
	{"an error of AWS's own", serverError, exitFailed, keyfile.ClassOther,
		[]string{"InternalServerError", "An error occurred on the server side."}},
	{"an expired token", expiredToken, exitFailed, keyfile.ClassCredentials,
		[]string{"ExpiredTokenException", "check the credentials", "clock"}},
}

// badSurroundings may be there when a task starts.
var badSurroundings = []badInput{
	{"no passphrase for an encrypted key", unset("SNOWKEY_PASSPHRASE_PARAMETER"), exitRefused, keyfile.ClassPassphrase,
		[]string{"encrypted and no passphrase was given", "--passphrase-parameter", "PRIVATE_KEY_PASSPHRASE"}},
	{"a version that is not there", set("SNOWKEY_KEY_PARAMETER", "/app/key:9"), exitRefused, keyfile.ClassNotFound,
		[]string{"no version or label 9 of /app/key", "version or label"}},
	{"a label that is not there", set("SNOWKEY_KEY_PARAMETER", "/app/key:blue"), exitRefused, keyfile.ClassNotFound,
		[]string{"no version or label blue of /app/key", "version or label"}},
	{"the ARN of another account", set("SNOWKEY_KEY_PARAMETER", "arn:aws:ssm:us-east-1:210987654321:parameter/app/key"), exitRefused, keyfile.ClassNotFound,
		[]string{"no parameter arn:aws:ssm:us-east-1:210987654321:parameter/app/key"}},
	{"no credentials", unset("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), exitFailed, keyfile.ClassCredentials,
		[]string{"no AWS credentials", "taskRoleArn", "AWS_PROFILE"}},
	{"a closed port", closedPort, exitFailed, keyfile.ClassNetwork,
		[]string{"SSM in us-east-1 was not reached", "connection refused", "check the way to 127.0.0.1:", "which AWS_ENDPOINT_URL_SSM names"}},
	{"a server that never answers", func(k *task) {
		k.env[beSidecar] = "300ms"
		hang(k)
	}, exitFailed, keyfile.ClassNetwork,
		[]string{"SSM in us-east-1 did not answer within", "check the way to ", "which AWS_ENDPOINT_URL_SSM names"}},
}

func put(parameter, value string) func(*task) {
	return func(k *task) { k.ssm.Put(parameter, value) }
}

func putFile(name string) func(*task) {
	return func(k *task) { k.ssm.Put(keyParameter, content(k.t, "internal/decrypt/testdata/"+name)) }
}

// putWritten stores a file of decrypt's testdata as write writes it.
func putWritten(name string, write func(string) string) func(*task) {
	return func(k *task) { k.ssm.Put(keyParameter, write(content(k.t, "internal/decrypt/testdata/"+name))) }
}

func b64(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// withStar has a star for a letter in the fourth line.
func withStar(pem string) string {
	lines := strings.Split(pem, "\n")
	lines[3] = lines[3][:4] + "*" + lines[3][5:]
	return strings.Join(lines, "\n")
}

// asJWK is a key that is not encrypted, in the form of RFC 7517.
func asJWK(pem string) string {
	key, err := keyfile.Parse([]byte(pem))
	if err != nil {
		panic("no key")
	}
	private := key.RSA()
	number := func(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.Bytes()) }
	text, _ := json.Marshal(map[string]string{
		"kty": "RSA", "n": number(private.N), "e": "AQAB", "d": number(private.D), "p": number(private.Primes[0]), "q": number(private.Primes[1]),
		"dp": number(private.Precomputed.Dp), "dq": number(private.Precomputed.Dq), "qi": number(private.Precomputed.Qinv),
	})
	return string(text)
}

func set(variable, value string) func(*task) {
	return func(k *task) { k.env[variable] = value }
}

func unset(variables ...string) func(*task) {
	return func(k *task) {
		for _, v := range variables {
			delete(k.env, v)
		}
	}
}

// answer makes SSM answer every call, or only those that decrypt, with a fault.
func answer(k *task, onlyDecrypting bool, fault localssm.Fault) {
	k.ssm.Intercept(func(c localssm.Call) *localssm.Fault {
		if onlyDecrypting && !c.WithDecryption {
			return nil
		}
		return &fault
	})
}

// AWS has two texts for a missing kms:Decrypt; localssm has the other.
func denyDecryptInWords(k *task) {
	answer(k, true, localssm.Fault{Code: "AccessDeniedException", Message: "User: arn:aws:sts::123456789012:assumed-role/app-task/session " +
		"is not authorized to perform: kms:Decrypt on resource: arn:aws:kms:us-east-1:123456789012:key/1234 because no identity-based policy " +
		"allows the kms:Decrypt action (Service: AWSKMS; Status Code: 400; Error Code: AccessDeniedException; Request ID: 5678; Proxy: null)"})
}

func serverError(k *task) {
	answer(k, false, localssm.Fault{Status: http.StatusInternalServerError, Code: "InternalServerError", Message: "An error occurred on the server side."})
}

func expiredToken(k *task) {
	answer(k, false, localssm.Fault{Code: "ExpiredTokenException", Message: "The security token included in the request is expired"})
}

func closedPort(k *task) {
	k.env["AWS_ENDPOINT_URL_SSM"] = "http://" + freeAddress(k.t)
	k.env["AWS_MAX_ATTEMPTS"] = "1"
}

// spoiledTask has a good key on disk, and something bad has happened since. There is another key to fetch as well: a
// sidecar that overlooks the fault replaces the good key.
func spoiledTask(t *testing.T, bad badInput) *task {
	k := newTask(t)
	k.publish()
	k.ssm.Put(keyParameter, content(t, nextKey))
	bad.spoil(k)
	return k
}

func TestOnce_ReportsBadInputAndLeavesTheKey(t *testing.T) {
	t.Parallel()
	for _, bad := range slices.Concat(badValues, badAnswers, badSurroundings) {
		t.Run(bad.name, func(t *testing.T) {
			t.Parallel()
			k := spoiledTask(t, bad)
			before := k.snapshot()

			once := k.do("once")
			once.want(bad.exit, bad.says...)
			k.untouched(before)
			if out := once.stdout.String(); out != "" {
				t.Errorf("stdout is for results, and has %q", out)
			}
			if said := once.stderr.String(); !strings.HasPrefix(said, "sidecar: ") || strings.Count(said, "\n") != 1 {
				t.Errorf("not one line with a prefix: %q", said)
			}
			s := k.status()
			if s.LastError == nil || s.LastError.Class != bad.class {
				t.Errorf("last error in the status: %+v, want class %s", s.LastError, bad.class)
			}
			// A refusal that names no account does not say that the key on disk is of this parameter.
			anonymous := []keyfile.ErrorClass{keyfile.ClassNotFound, keyfile.ClassAccessDenied}
			if s.Fingerprint != fingerprint(t, oldFingerprint) && (s.Fingerprint != "" || !slices.Contains(anonymous, bad.class)) {
				t.Errorf("the status says that %q is on disk", s.Fingerprint)
			}
		})
	}
}

// A task that is replaced in the middle of trouble goes on with the key that its predecessor published.
func TestRun_KeepsTheKeyOnDiskWhenItStartsInTrouble(t *testing.T) {
	t.Parallel()
	for _, bad := range badSurroundings {
		t.Run(bad.name, func(t *testing.T) {
			t.Parallel()
			k := spoiledTask(t, bad)
			before := k.snapshot()

			run := k.start("run", onDemand)
			run.fails(bad, 0)
			run.signal(syscall.SIGHUP)
			run.fails(bad, 1)
			k.untouched(before)
			if parameter := k.env["SNOWKEY_KEY_PARAMETER"]; parameter == "" || parameter == keyParameter {
				k.do("healthcheck").want(exitDone)
			} else { // the key on disk is of another source
				k.do("healthcheck").want(exitFailed, "no key from ")
			}
			run.end(syscall.SIGTERM)
			run.want(exitDone)
		})
	}
}

// One process survives all of them and publishes the next good key.
func TestRun_SurvivesEveryBadValueAndAnswer(t *testing.T) {
	t.Parallel()
	for name, all := range map[string][]badInput{"values": badValues, "answers": badAnswers} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newTask(t)
			run := k.run()
			before := k.snapshot()

			for i, bad := range all {
				k.ssm.Put(keyParameter, content(t, nextKey))
				bad.spoil(k)
				for range 2 {
					failures := run.count("refresh failed")
					run.signal(syscall.SIGHUP)
					run.fails(bad, failures)
				}
				k.untouched(before)

				k.heal()
				run.signal(syscall.SIGHUP)
				run.eventually("recovers from "+bad.name, func() bool { return run.count("recovered") == i+1 })
				if s := k.status(); s.LastError != nil || s.Fingerprint != fingerprint(t, oldFingerprint) {
					t.Errorf("after %s the status is %+v", bad.name, s)
				}
				k.untouched(before)
			}
			k.ssm.Put(keyParameter, content(t, nextKey))
			run.signal(syscall.SIGHUP)
			run.follows(fingerprint(t, nextFingerprint))
			run.end(syscall.SIGTERM)
			run.want(exitDone)
		})
	}
}

// fails waits for another failure than the first so many, and checks what the log says of it.
func (p *process) fails(bad badInput, failures int) {
	p.t.Helper()
	p.eventually(bad.name, func() bool { return p.count("refresh failed") > failures })
	last := p.last("refresh failed")
	if last.Class != bad.class {
		p.t.Errorf("%s: class %s in the log, want %s", bad.name, last.Class, bad.class)
	}
	for _, words := range bad.says {
		if !strings.Contains(last.Error, words) {
			p.t.Errorf("%s: no %q in the log's %q", bad.name, words, last.Error)
		}
	}
}
