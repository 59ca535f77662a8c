package vmwaretest

import (
	"context"
	"slices"
	"testing"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// timeOutSessions has the simulator end idle sessions, which it does not do by itself.
func (s *Server) timeOutSessions() {
	if s.options.SessionTimeout == 0 {
		return
	}
	m := s.Model.Map().OptionManager()
	m.Setting = append(m.Setting, &types.OptionValue{
		Key: "config.vmacore.soap.sessionTimeout", Value: s.options.SessionTimeout.String()})
}

// Sessions are those that are open.
func (s *Server) Sessions() []types.UserSession {
	var m mo.SessionManager
	ref := *s.Client.ServiceContent.SessionManager
	pc := s.Client.ServiceContent.PropertyCollector
	if err := mo.RetrieveProperties(context.Background(), s.Client, pc, ref, &m); err != nil {
		return nil
	}
	return m.SessionList
}

// KillSessions ends all sessions at once, as an administrator or a restart does.
func (s *Server) KillSessions(t testing.TB) {
	t.Helper()
	for _, u := range s.Sessions() {
		_, err := methods.TerminateSession(context.Background(), s.Client, &types.TerminateSession{
			This: *s.Client.ServiceContent.SessionManager, SessionId: []string{u.Key}})
		if err != nil && !fault.Is(err, &types.NotFound{}) { // it ended by itself
			t.Fatal("end the sessions: ", err)
		}
	}
}

// session is the open one of a key.
func (s *Server) session(key string) (types.UserSession, bool) {
	all := s.Sessions()
	i := slices.IndexFunc(all, func(u types.UserSession) bool { return u.Key == key })
	if i < 0 {
		return types.UserSession{}, false
	}
	return all[i], true
}
