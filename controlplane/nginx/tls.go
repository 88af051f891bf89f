package nginx

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
)

// EnsureCertificate makes a self-signed certificate for localhost in dir/tls unless a pair is there: an operator's own pair
// is never touched. It lasts ten years, since nobody renews a laptop's certificate.
func EnsureCertificate(dir string) error {
	dir = filepath.Join(dir, "tls")
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if exists(certFile) && exists(keyFile) {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot make %q: %v", dir, err)
	}
	cert, key, err := selfSigned(time.Now())
	if err != nil {
		return fmt.Errorf("cannot make a certificate: %v", err)
	}
	if err := renameio.WriteFile(keyFile, key, 0o600); err != nil {
		return fmt.Errorf("cannot write %q: %v", keyFile, err)
	}
	return renameio.WriteFile(certFile, cert, 0o644)
}

// certificateDigest stands in the configuration, so that another certificate makes another generation: it shows in the diff and
// is reloaded. Empty when there is none yet.
func certificateDigest(dir string) string {
	text, err := os.ReadFile(filepath.Join(dir, "tls", "cert.pem"))
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:6])
}

func selfSigned(now time.Time) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, err
	}
	subject := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, subject, subject, &private.PublicKey, private)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
