package engine

import (
	"crypto/subtle"
	"slices"

	"github.com/nats-io/nats-server/v2/server"
)

// access decides who may do what at the embedded server. The handshake has checked the
// certificates; what is left are this process itself, which knows a secret of its own,
// and appliances, by the names in their certificates.
type access struct {
	secret string // of this process
}

// local is the name that this process has at its own server.
const local = "this-appliance"

// Check implements server.Authentication.
func (a access) Check(c server.ClientAuthentication) bool {
	state := c.GetTLSConnectionState()
	if state == nil {
		return a.own(c)
	}
	if len(state.VerifiedChains) == 0 {
		return false
	}
	name := state.PeerCertificates[0].Subject.CommonName
	c.RegisterUser(&server.User{Username: name, Permissions: permissions(name), ConnectionDeadline: state.PeerCertificates[0].NotAfter})
	return true
}

func (a access) own(c server.ClientAuthentication) bool {
	o := c.GetOpts()
	if o.Username != local || subtle.ConstantTimeCompare([]byte(o.Password), []byte(a.secret)) != 1 {
		return false
	}
	c.RegisterUser(&server.User{Username: local})
	return true
}

// inboxes are where an appliance gets answers, and nobody else can read them.
func inboxes(id string) string { return "_INBOX." + id }

// streams are what the engine keeps. Buckets are streams too.
//
// Source: nats.go, jetstream/kv.go, kvBucketNameTmpl; jetstream/object.go, objNameTmpl.
var streams = []string{"KV_jobs", "KV_appliances", "KV_states", "EVENTS", "AUDIT", "OBJ_kept"}

// permissions are what the engine of an appliance that joined needs: to read all that is
// kept, to write records, its own heartbeat and events, and to ask the hub. It can make
// and remove no stream, and take nothing away but files of migrations that it replaces.
//
// Source: nats.go, jetstream/api.go, which names the subjects.
func permissions(id string) *server.Permissions {
	publish := []string{"$KV.jobs.>", "$KV.appliances." + id, "$KV.states.>", "events.>", "audit", "$O.kept.>", "$JS.ACK.>", "$JS.FC.>", "$JS.API.STREAM.PURGE.OBJ_kept", renewals}
	for _, s := range streams {
		publish = append(publish, "$JS.API.STREAM.INFO."+s, "$JS.API.STREAM.MSG.GET."+s, "$JS.API.DIRECT.GET."+s, "$JS.API.DIRECT.GET."+s+".>",
			"$JS.API.CONSUMER.CREATE."+s+".>", "$JS.API.CONSUMER.CREATE."+s, "$JS.API.CONSUMER.DELETE."+s+".>", "$JS.API.CONSUMER.INFO."+s+".>", "$JS.API.CONSUMER.MSG.NEXT."+s+".>")
	}
	slices.Sort(publish)
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: publish, Deny: []string{"$KV.states.fleet.>"}},
		Subscribe: &server.SubjectPermission{Allow: []string{inboxes(id) + ".>"}},
	}
}
