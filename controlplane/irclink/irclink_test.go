package irclink

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kmsctl/kms/runtime/bus"
	"github.com/kmsctl/kms/runtime/testkit"
)

var kinds = []string{bus.InspIRCd, bus.NgIRCd}

// startServer runs a server from what Render and Command give, until the test ends or kill is called.
func startServer(t *testing.T, kind string, o ServerOptions) (kill func()) {
	t.Helper()
	o.Dir = testkit.ShortDir(t)
	text, err := Render(kind, o)
	if err != nil {
		t.Fatal(err)
	}
	return runServer(t, kind, text, o.Listen)
}

// runServer runs a server on a configuration.
func runServer(t *testing.T, kind string, text []byte, listen string) (kill func()) {
	t.Helper()
	program := testkit.Need(t, kind)
	conf := filepath.Join(testkit.ShortDir(t), kind+".conf")
	if err := os.WriteFile(conf, text, 0o600); err != nil {
		t.Fatal(err)
	}
	argv := Command(kind, program, conf)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait()
	}()
	kill = func() {
		_ = cmd.Process.Kill()
		<-done
	}
	t.Cleanup(func() {
		kill()
		if t.Failed() {
			t.Logf("%s\n%s", text, out.String())
		}
	})
	testkit.Eventually(t, 10*time.Second, kind+" listens", func() bool {
		c, err := net.Dial("tcp", listen)
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
	return kill
}

func testLink(t *testing.T, kind, password string, servers ...string) bus.Link {
	t.Helper()
	l, err := NewLink("main", kind, servers)
	if err != nil {
		t.Fatal(err)
	}
	l.Password = password
	return BusLink(l)
}

func deadline(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestGeneratedServer_servesAsBus(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			o := ServerOptions{Name: "irc.kms.internal", Listen: testkit.FreeAddr(t), Password: `a"b&c<d>#;\{}%$x` + "'"}
			startServer(t, kind, o)
			link := testLink(t, kind, o.Password, o.Listen)
			report, err := Test(deadline(t, 15*time.Second), link)
			if err != nil {
				t.Fatal(err)
			}
			if !report.OK || report.Server != o.Listen || report.MaxLine != MaxLine(kind) || report.RoundTrip <= 0 || report.Software == "" {
				t.Errorf("report %+v", report)
			}
			wrong := link
			wrong.Password = "wrong"
			report, err = Test(deadline(t, 3*time.Second), wrong)
			if err == nil || report.OK || report.Problem == "" || strings.Contains(report.Problem, "wrong") {
				t.Errorf("with the wrong password: %+v, %v", report, err)
			}
		})
	}
}

func TestGeneratedServer_newPasswordsWork(t *testing.T) {
	for _, kind := range kinds {
		o := ServerOptions{Name: "irc.kms.internal", Listen: testkit.FreeAddr(t), Password: NewPassword()}
		startServer(t, kind, o)
		link := testLink(t, kind, o.Password, o.Listen)
		if _, err := Test(deadline(t, 15*time.Second), link); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		link.Password = o.Password[:len(o.Password)-1]
		if _, err := Test(deadline(t, 2*time.Second), link); err == nil {
			t.Errorf("%s takes a password that lacks its last character", kind)
		}
	}
}

func TestTest_findsLinesThatAreCut(t *testing.T) {
	o := ServerOptions{Name: "irc.kms.internal", Listen: testkit.FreeAddr(t)}
	startServer(t, bus.NgIRCd, o)
	link := testLink(t, bus.NgIRCd, "", o.Listen)
	link.MaxLine = 1024
	report, err := Test(deadline(t, 15*time.Second), link)
	if err == nil || !strings.Contains(report.Problem, "1024 bytes") {
		t.Errorf("report %+v, %v", report, err)
	}
}

func TestGeneratedServer_speaksTLS(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			ca, files := certificate(t)
			o := ServerOptions{Name: "irc.kms.internal", Listen: testkit.FreeAddr(t), Password: "secret", TLS: &files}
			startServer(t, kind, o)
			link := testLink(t, kind, o.Password, o.Listen)
			link.TLS, link.TLSCA = true, ca
			if _, err := Test(deadline(t, 15*time.Second), link); err != nil {
				t.Fatal(err)
			}
			otherCA, _ := certificate(t)
			link.TLSCA = otherCA
			if _, err := Test(deadline(t, 2*time.Second), link); err == nil || !strings.Contains(err.Error(), "certificate") {
				t.Errorf("a server of another CA: %v", err)
			}
		})
	}
}

// certificate makes a self-signed one for 127.0.0.1 and returns it and its files.
func certificate(t *testing.T) (string, TLS) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "kms test"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	dir := testkit.ShortDir(t)
	files := TLS{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	if err := os.WriteFile(files.Cert, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600); err != nil {
		t.Fatal(err)
	}
	return string(cert), files
}

func TestRender_refusesWhatWouldBreakOut(t *testing.T) {
	good := ServerOptions{Name: "irc.kms.internal", Listen: "127.0.0.1:6667", Password: "x", Dir: "/var/lib/kms/irc", LinkListen: "127.0.0.1:7000", LinkPassword: "y"}
	for _, kind := range kinds {
		if _, err := Render(kind, good); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		for what, change := range map[string]func(*ServerOptions){
			"name with a quote":        func(o *ServerOptions) { o.Name = `irc.kms"><oper ` },
			"name without a dot":       func(o *ServerOptions) { o.Name = "irc" },
			"name with a line break":   func(o *ServerOptions) { o.Name = "irc.kms\n" },
			"host name":                func(o *ServerOptions) { o.Listen = "localhost:6667" },
			"port with more":           func(o *ServerOptions) { o.Listen = "127.0.0.1:6667\nx" },
			"no port":                  func(o *ServerOptions) { o.Listen = "127.0.0.1" },
			"password with line break": func(o *ServerOptions) { o.Password = "x\n[Operator]" },
			"password with a space":    func(o *ServerOptions) { o.Password = "x y" },
			"long password":            func(o *ServerOptions) { o.Password = strings.Repeat("x", 65) },
			"relative directory":       func(o *ServerOptions) { o.Dir = "irc" },
			"directory with a quote":   func(o *ServerOptions) { o.Dir = `/var/"lib` },
			"certificate":              func(o *ServerOptions) { o.TLS = &TLS{Cert: "/x\n", Key: "/y"} },
			"link password":            func(o *ServerOptions) { o.LinkPassword = "\r" },
			"peer's name":              func(o *ServerOptions) { o.Peers = []Peer{{Name: "x", Address: "127.0.0.1:1"}} },
			"peer's address":           func(o *ServerOptions) { o.Peers = []Peer{{Name: "x.y", Address: ":1"}} },
			"peers without a password": func(o *ServerOptions) {
				o.LinkPassword, o.Peers = "", []Peer{{Name: "x.y", Address: "127.0.0.1:1"}}
			},
		} {
			bad := good
			change(&bad)
			if text, err := Render(kind, bad); err == nil {
				t.Errorf("%s: %s passes:\n%s", kind, what, text)
			}
		}
	}
	if _, err := Render("unreal", good); err == nil {
		t.Error("an unknown kind passes")
	}
}

func TestNewLink(t *testing.T) {
	a, err := NewLink("main", "inspircd", []string{"127.0.0.1:6667"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewLink("main", "inspircd", []string{"127.0.0.1:6667"})
	if err != nil || string(a.Key) == string(b.Key) || len(a.Key) != 32 {
		t.Errorf("keys %x and %x, %v", a.Key, b.Key, err)
	}
	for _, servers := range [][]string{nil, {"nowhere"}, {"a b:1"}} {
		if _, err := NewLink("main", "inspircd", servers); err == nil {
			t.Errorf("servers %q pass", servers)
		}
	}
}
