package main

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// settle writes the settings of an appliance whose folders are the script's.
func settle(ts *testscript.TestScript, neg bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	address := l.Addr().String()
	ts.Check(l.Close())
	work := ts.Getenv("WORK")
	text := fmt.Sprintf("appliance: {name: a1}\nstate: %[1]s/state\ncapacity: 1\nlisten: [{https: '%[2]s'}, {unix: %[1]s/agent.sock}]\n"+
		"storages: [{name: vmware, path: %[1]s/vmware, use: source}, {name: kvm, path: %[1]s/kvm, use: target}]\n", work, address)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
	ts.Setenv("APPLIANCE", "unix:"+work+"/agent.sock")
	ts.Setenv("HTTPS", "https://"+address)
}

// answers waits for the appliance's socket, which is there when all is.
func answers(ts *testscript.TestScript, neg bool, args []string) {
	for limit := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("unix", strings.TrimPrefix(ts.Getenv("APPLIANCE"), "unix:"))
		if err == nil {
			ts.Check(conn.Close())
			break
		}
		if time.Now().After(limit) {
			ts.Fatalf("the appliance does not answer: %v", err)
		}
	}
	own := ts.Getenv("WORK") + "/state/tls/own.pem"
	c, err := tls.LoadX509KeyPair(own, own)
	ts.Check(err)
	sum := sha256.Sum256(c.Certificate[0])
	ts.Setenv("FINGERPRINT", strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":"))
}

func waits(ts *testscript.TestScript, neg bool, args []string) {
	for limit := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		ts.Check(ts.Exec("hyper2kvm", args[1:]...))
		if strings.Contains(ts.ReadFile("stdout"), args[0]) {
			return
		}
		if time.Now().After(limit) {
			ts.Fatalf("it does not print %s", args[0])
		}
	}
}
