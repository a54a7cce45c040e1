package network

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// The settings of trust. The first adds to the others, or to the system's authorities.
const (
	bundleVariable    = "AWS_CA_BUNDLE"
	fileVariable      = "SSL_CERT_FILE"
	directoryVariable = "SSL_CERT_DIR"
)

// Roots are the authorities that every client trusts: those of SSL_CERT_FILE and SSL_CERT_DIR, or of the system, and
// those of AWS_CA_BUNDLE. nil stands for the first alone, as in crypto/tls.
func Roots() *x509.CertPool {
	path := os.Getenv(bundleVariable)
	if path == "" {
		return nil
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if bundle, err := readBundle(path); err == nil { // otherwise Check has refused it
		roots.AppendCertsFromPEM(bundle)
	}
	return roots
}

// Check reports settings of proxies and authorities that no client can use. Go and the SDK would ignore some of them, and
// fail at every connection for others.
func Check() []error {
	all := checkProxies()
	for _, variable := range []string{bundleVariable, fileVariable} {
		if path := os.Getenv(variable); path != "" {
			if err := checkBundle(path); err != nil {
				all = append(all, fmt.Errorf("%s%s: %w", variable, surroundings(path), err))
			}
		}
	}
	if directories := os.Getenv(directoryVariable); directories != "" {
		if err := checkDirectories(filepath.SplitList(directories)); err != nil {
			all = append(all, fmt.Errorf("%s%s: %w", directoryVariable, surroundings(directories), err))
		}
	}
	return all
}

// maxBundle is thirty times the bundle of all public authorities.
const maxBundle = 8 << 20

func readBundle(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, reason(err)
	case info.IsDir():
		return nil, errors.New("it is a directory")
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, reason(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxBundle+1))
	if err != nil {
		return nil, reason(err)
	}
	if len(data) > maxBundle {
		return nil, fmt.Errorf("it is longer than %d MiB", maxBundle>>20)
	}
	return data, nil
}

// reason is an error of a file without its path.
func reason(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

const nameBundle = "name a PEM file with the certificates of the authorities to trust, such as /etc/ssl/certs/ca-certificates.crt"

func checkBundle(path string) error {
	data, err := readBundle(path)
	if err != nil {
		return fmt.Errorf("%w; %s", err, nameBundle)
	}
	if hasCertificate(data) {
		return nil
	}
	block, _ := pem.Decode(data)
	switch {
	case len(bytes.TrimSpace(data)) == 0:
		return errors.New("the file is empty; " + nameBundle)
	case isDER(data):
		return errors.New("the certificate is DER, not PEM; convert it with: openssl x509 -inform der -in OLD -out NEW.pem")
	case block != nil && block.Type == "PKCS7":
		return errors.New("the certificates are PKCS#7, not PEM; convert them with: openssl pkcs7 -print_certs -in OLD -out NEW.pem")
	case block != nil && block.Type == "TRUSTED CERTIFICATE":
		return errors.New("the certificate is in OpenSSL's own form; convert it with: openssl x509 -in OLD -out NEW.pem")
	default:
		return errors.New("the file has no certificate; " + nameBundle)
	}
}

func isDER(data []byte) bool {
	_, err := x509.ParseCertificate(data)
	return err == nil
}

// hasCertificate reports whether [x509.CertPool.AppendCertsFromPEM] finds a certificate. It stops at the first.
func hasCertificate(data []byte) bool {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" && len(block.Headers) == 0 && isDER(block.Bytes) {
			return true
		}
	}
	return false
}

// checkDirectories wants one certificate in any of them, as Go does.
func checkDirectories(directories []string) error {
	found := errors.New("there is none")
	for _, directory := range directories {
		entries, err := os.ReadDir(directory)
		if err != nil {
			found = reason(err)
			continue
		}
		for _, entry := range entries {
			data, err := readBundle(filepath.Join(directory, entry.Name()))
			if err == nil && hasCertificate(data) {
				return nil
			}
		}
		found = errors.New("none of the files has a certificate")
	}
	return fmt.Errorf("%w; name a directory with certificates in PEM files, such as /etc/ssl/certs", found)
}
