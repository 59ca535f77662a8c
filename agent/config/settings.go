// Package config is the agent's settings: YAML files over one another, checked by a
// JSON Schema that tells of each setting what it is for and what it is if nobody says.
//
// Settings hold no secret. Sealed secret: one that the appliance keeps; settings know
// it by its name. Credential: a file that systemd hands to the agent.
package config

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/layers"
)

// ErrSettings is settings that cannot be used. What it wraps says where and why.
var ErrSettings = errors.New("cannot use these settings")

// Settings are what their schema describes, complete with defaults.
type Settings struct {
	Appliance Appliance `json:"appliance"`
	State     string    `json:"state"`
	Listen    []Listen  `json:"listen"`
	TLS       TLS       `json:"tls"`
	Storages  []Storage `json:"storages"`
	VSphere   []Server  `json:"vsphere"`
	Capacity  int       `json:"capacity"`
	Limits    []Limit   `json:"limits"`
	Engine    Engine    `json:"engine"`
	Hooks     Hooks     `json:"hooks"`
	Notify    Notify    `json:"notify"`
	Watch     []Watch   `json:"watch"`
	Screen    Screen    `json:"screen"`
	Log       Log       `json:"log"`
	Audit     Audit     `json:"audit"`
	Keep      Keep      `json:"keep"`
	OIDC      *OIDC     `json:"oidc,omitempty"` // nil without one

	values *layers.Value
}

// Dump is the settings as YAML, each with the file and line that says it. It can be
// read as settings again.
func (s *Settings) Dump() (string, error) { return s.values.Dump() }

// Appliance is this one.
type Appliance struct {
	Name string `json:"name"`
}

// Listen is one way in: one of the fields is set.
type Listen struct {
	HTTPS string `json:"https,omitempty"`
	Unix  string `json:"unix,omitempty"`
	VSock uint32 `json:"vsock,omitempty"`
}

// TLS has files; all may be empty.
type TLS struct {
	Certificate string `json:"certificate,omitempty"`
	Key         string `json:"key,omitempty"` // a file, or credential:NAME
	ClientCAs   string `json:"clientCAs,omitempty"`
	FirstAdmins string `json:"firstAdmins,omitempty"` // certificates of clients
}

// Storage is a folder in which disks lie or results go.
type Storage struct {
	Name string           `json:"name"`
	Path string           `json:"path"` // absolute and clean
	Use  model.StorageUse `json:"use"`
}

// Server is a vCenter or an ESXi host that guests are taken from.
type Server struct {
	Name       string            `json:"name"`
	Server     string            `json:"server"` // its address
	User       string            `json:"user"`
	Secret     string            `json:"secret"` // of the password
	Thumbprint string            `json:"thumbprint,omitempty"`
	CA         string            `json:"ca,omitempty"`
	Proxy      string            `json:"proxy,omitempty"`
	Resolve    map[string]string `json:"resolve"`
	VDDK       string            `json:"vddk,omitempty"` // a folder, or Uploaded
	VDDKModes  string            `json:"vddkModes,omitempty"`
	VDDKPlugin string            `json:"vddkPlugin,omitempty"` // a file; "": nbdkit's own
	Transports []string          `json:"transports"`
	SSH        *SSH              `json:"ssh,omitempty"` // nil: the transport cannot be used
}

// Uploaded is the VDDK that was uploaded to the appliance, by its name there.
const Uploaded = "vddk"

// SSH is how disks' files are read from ESXi hosts, which are known by one of KnownHosts
// and Fingerprint. The user has a key, a password, or both.
type SSH struct {
	User        string `json:"user"`
	Key         string `json:"key,omitempty"`    // a file, or credential:NAME
	Secret      string `json:"secret,omitempty"` // of the password
	Port        int    `json:"port"`
	KnownHosts  string `json:"knownHosts,omitempty"` // a file
	Fingerprint string `json:"fingerprint,omitempty"`
}

// Limit is how many migrations a storage bears, on all appliances together.
type Limit struct {
	Storage string `json:"storage"`
	AtOnce  int    `json:"atOnce"`
}

// The shapes of the engine.
const (
	Single       = "single"
	HubShape     = "hub"
	WorkerShape  = "worker"
	ClusterShape = "cluster"
	External     = "external"
)

// Engine has the field that is named as its shape, if there is one, and no other.
type Engine struct {
	Shape    string        `json:"shape"`
	Lease    Duration      `json:"lease"`
	Hub      *Hub          `json:"hub,omitempty"`
	Worker   *Worker       `json:"worker,omitempty"`
	Cluster  *Cluster      `json:"cluster,omitempty"`
	External *ExternalNATS `json:"external,omitempty"`
}

// Hub is joined by workers.
type Hub struct {
	Listen string `json:"listen"`
}

// Worker joins a hub.
type Worker struct {
	Hub    string `json:"hub"`
	Secret string `json:"secret,omitempty"` // the credential that holds the token to join with
}

// Cluster is appliances that vote.
type Cluster struct {
	Name    string `json:"name"`
	Listen  string `json:"listen"`
	Workers string `json:"workers,omitempty"` // where workers join; "": none can
	Peers   []Peer `json:"peers"`             // 3 or 5, this appliance among them
}

// Peer is one that votes.
type Peer struct {
	Name    string `json:"name"`
	Address string `json:"address"`
}

// ExternalNATS is a server that was there before.
type ExternalNATS struct {
	URL         string `json:"url"`
	Credentials string `json:"credentials,omitempty"` // a file, or credential:NAME
	CA          string `json:"ca,omitempty"`
}

// Hooks is what migrations may run, by name.
type Hooks struct {
	Folder   string    `json:"folder"`
	User     string    `json:"user,omitempty"` // whom programs run as; "": nobody, if the agent is root
	Webhooks []Webhook `json:"webhooks"`
}

// Webhook has a URL, or the name of a sealed secret that holds it.
type Webhook struct {
	Name      string        `json:"name"`
	URL       string        `json:"url,omitempty"`
	URLSecret string        `json:"urlSecret,omitempty"`
	Secret    string        `json:"secret,omitempty"` // that requests are signed with
	Events    []model.State `json:"events,omitempty"` // of notify's alone
}

// Notify is who is told of migrations.
type Notify struct {
	Webhooks []Webhook `json:"webhooks"`
	Mail     *Mail     `json:"mail,omitempty"` // nil without it
}

// Mail is people who are told by mail.
type Mail struct {
	Server     string        `json:"server"`
	From       string        `json:"from"`
	To         []string      `json:"to"`
	Encryption string        `json:"encryption"` // startTLS, tls or none
	User       string        `json:"user,omitempty"`
	Secret     string        `json:"secret,omitempty"` // of the password
	Events     []model.State `json:"events"`
}

// Watch is a folder of which each new guest is migrated.
type Watch struct {
	Storage string     `json:"storage"`
	Folder  string     `json:"folder"`
	Target  string     `json:"target"`
	Settled Duration   `json:"settled"`
	Spec    model.Spec `json:"spec"` // but for source, name, and the target's storage
}

// Screen is what the appliance's own screen lets people do who stand before it.
type Screen struct {
	Shell bool `json:"shell"`
}

// Log is what the agent tells of: debug, info, warn or error, and what is worse.
type Log struct {
	Level string `json:"level"`
}

// Audit is the log of who did what.
type Audit struct {
	Keep Duration `json:"keep"`
}

// Keep is how long migrations that have ended are listed.
type Keep struct {
	For   Duration `json:"for"`
	Count int      `json:"count"`
}

// OIDC is an identity provider with whom people log in.
type OIDC struct {
	Issuer    string            `json:"issuer"`
	ClientID  string            `json:"clientID"`
	Redirect  string            `json:"redirect"` // this appliance's LoginCallback
	Secret    string            `json:"secret,omitempty"`
	CA        string            `json:"ca,omitempty"` // file
	Scopes    []string          `json:"scopes"`       // besides openid
	NameClaim string            `json:"nameClaim"`
	Claim     string            `json:"claim"`
	Roles     map[string]string `json:"roles"` // by group: viewer, operator or admin
}

// LoginCallback is the path at which the API takes in whom the provider sends back.
const LoginCallback = "/login/callback"

// Duration is written as a whole number of one unit: 30s, 10m, 24h, 365d.
type Duration time.Duration

// units of a duration.
var units = map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}

func (d *Duration) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	if text == "" {
		return errors.New("a duration is empty")
	}
	unit := units[text[len(text)-1]]
	n, err := strconv.ParseInt(text[:len(text)-1], 10, 64)
	if err != nil || unit == 0 || n > int64(1<<62)/int64(unit) {
		return fmt.Errorf("%q is no duration: write 30s, 10m, 24h or 365d", text)
	}
	*d = Duration(n) * Duration(unit)
	return nil
}
