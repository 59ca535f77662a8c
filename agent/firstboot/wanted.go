package firstboot

import (
	"io/fs"
	"path"
	"strings"
)

// The files that are first boot's own, below the root folder. What nobody says any more
// is removed.
const (
	networkPath  = "etc/systemd/network/50-hyper2kvm.network"
	resolvedPath = "etc/systemd/resolved.conf.d/50-hyper2kvm.conf"
	timesyncPath = "etc/systemd/timesyncd.conf.d/50-hyper2kvm.conf"
	hostnamePath = "etc/hostname"
	keymapPath   = "etc/vconsole.conf"
	sshPath      = "etc/ssh/authorized_keys.d/root" // that it is there lets sshd start
	pairPath     = "etc/hyper2kvm/tls/seeded.pem"   // certificate and key, which one rename changes
	trustPath    = "etc/hyper2kvm/tls/admins.pem"
	caPath       = "etc/hyper2kvm/tls/authorities.pem"
	tokenPath    = "etc/credstore/" + tokenName
	ownPath      = "etc/hyper2kvm/config.d/50-first-boot.yaml"
	agentPath    = "etc/hyper2kvm/config.d/60-seed.yaml"
)

// tokenName is the join token's as a credential: systemd hands the agent what lies in
// its folder of credentials.
//
// Source: systemd.exec(5), ImportCredential=.
const tokenName = "hyper2kvm-join"

// nobodysName is the host's if nobody says one.
const nobodysName = "hyper2kvm"

// file is one that is to be there.
type file struct {
	path string
	mode fs.FileMode
	text string
}

// owned are all files of first boot's, each after those that it names: they are written
// in this order, and removed in the other one.
var owned = []string{networkPath, hostnamePath, resolvedPath, timesyncPath, keymapPath, sshPath, pairPath, trustPath, caPath, tokenPath, ownPath, agentPath}

// wanted are the files that settings ask for, in the order of owned.
func wanted(s *Settings, c *card) []file {
	name := s.Hostname
	if name == "" {
		name = nobodysName
	}
	list := []file{{networkPath, 0o644, networkFile(s, c)}, {hostnamePath, 0o644, name + "\n"}}
	add := func(has bool, path string, mode fs.FileMode, text string) {
		if has {
			list = append(list, file{path, mode, text})
		}
	}
	add(len(s.DNS) > 0 || len(s.Search) > 0, resolvedPath, 0o644, resolvedFile(s))
	add(len(s.NTP) > 0, timesyncPath, 0o644, timesyncFile(s))
	add(s.Keymap != "", keymapPath, 0o644, keymapFile(s))
	add(len(s.SSHKeys) > 0, sshPath, 0o600, strings.Join(s.SSHKeys, "\n")+"\n")
	add(len(s.Certificate) > 0, pairPath, 0o600, string(s.Certificate)+string(s.Key))
	add(len(s.Trust) > 0, trustPath, 0o600, string(encode(s.Trust)))
	add(len(s.Authorities) > 0, caPath, 0o600, string(encode(s.Authorities)))
	add(len(s.JoinToken) > 0, tokenPath, 0o600, string(s.JoinToken)+"\n")
	own := ownSettings(s)
	add(own != "", ownPath, 0o644, written+own)
	add(len(s.Agent) > 0, agentPath, 0o644, written+string(s.Agent))
	return list
}

// ownSettings are the agent's, as far as they name files that are written here.
func ownSettings(s *Settings) (text string) {
	if len(s.Certificate)+len(s.Trust) > 0 {
		text += "tls:\n"
	}
	if len(s.Certificate) > 0 {
		text += "  certificate: /" + pairPath + "\n  key: /" + pairPath + "\n"
	}
	if len(s.Trust) > 0 {
		text += "  firstAdmins: /" + trustPath + "\n"
	}
	if len(s.JoinToken) > 0 {
		text += "engine:\n  shape: worker\n  worker: {hub: '" + s.Hub + "', secret: " + path.Base(tokenPath) + "}\n"
	}
	return text
}
