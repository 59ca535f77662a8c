package vmware

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// powerOff is a call that may not be carried out twice.
func powerOff(t *testing.T, session *Session, s *site) error {
	_, err := methods.PowerOffVM_Task(t.Context(), session, &types.PowerOffVM_Task{This: s.model.Map().Any("VirtualMachine").Reference()})
	return err
}

func now(t *testing.T, session *Session) error {
	_, err := methods.GetCurrentTime(t.Context(), session)
	return err
}

func TestASessionThatEndedIsMadeAnewOnce(t *testing.T) {
	s := newSite(t, simulator.VPX())
	session := s.connect(t)
	s.endSessions(t)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if err := now(t, session); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := s.count("Login"); n != 2 {
		t.Errorf("20 calls at once logged in %d times after the first", n-1)
	}
	s.endSessions(t)
	if err := powerOff(t, session, s); err != nil { // it was not carried out, so it may be said again
		t.Error(err)
	}
}

func TestAPasswordThatIsRefusedIsNotTriedAgain(t *testing.T) {
	s := newSite(t, simulator.VPX())
	session := s.connect(t)
	s.model.Map().SessionManager().ValidLogin = func(*types.Login) bool { return false }
	s.endSessions(t)
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() { wantError(t, now(t, session), ErrLogin, "not tried again") })
	}
	all.Wait()
	if n := s.count("Login"); n != 2 {
		t.Errorf("a wrong password was sent %d times", n-1)
	}
}

func TestAServerThatEndsEverySessionIsSaid(t *testing.T) {
	s := newSite(t, simulator.VPX())
	session := s.connect(t)
	killed := "CurrentTime"
	s.set(func() {
		s.spoil = func(method string, _ http.ResponseWriter) bool {
			if method == killed {
				s.endSessions(t)
			}
			return false
		}
	})
	says := []string{session.peer.host() + " ended the log-in of " + siteUser, "somebody ends sessions there", "give the same command again"}
	wantError(t, now(t, session), ErrSession, says...)
	if n := s.count("Login"); n != 2+mostRenewals {
		t.Errorf("it logged in %d times", n)
	}
	killed = "RetrievePropertiesEx"
	_, err := session.One(t.Context(), "DC0_H0_VM0")
	wantError(t, err, ErrSession, says...)
	s.set(func() { s.spoil = nil })
	if _, err := session.One(t.Context(), "DC0_H0_VM0"); err != nil {
		t.Error(err)
	}
}

const begun = `<?xml version="1.0"?><Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Bo`

// times makes something true a number of times.
func times(n int) func() bool {
	var mu sync.Mutex
	return func() bool {
		mu.Lock()
		defer mu.Unlock()
		n--
		return n >= 0
	}
}

func TestReadsOutlastFaultsThatPass(t *testing.T) {
	impatient(t)
	s := newSite(t, simulator.VPX())
	session := s.connect(t)
	for name, fault := range map[string]func(http.ResponseWriter){
		"busy": func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) },
		"cut":  func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"cut in the answer": func(w http.ResponseWriter) {
			_, _ = w.Write([]byte(begun))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"short": func(w http.ResponseWriter) { _, _ = w.Write([]byte(begun)) },
		"empty": func(http.ResponseWriter) {},
	} {
		t.Run(name, func(t *testing.T) {
			still := times(4)
			s.set(func() {
				s.spoil = func(method string, w http.ResponseWriter) bool {
					if method != "CurrentTime" || !still() {
						return false
					}
					fault(w)
					return true
				}
			})
			before := s.count("CurrentTime")
			if err := now(t, session); err != nil {
				t.Error(err)
			}
			if n := s.count("CurrentTime") - before; n != 5 {
				t.Errorf("it was asked for %d times", n)
			}
		})
	}
}

// TestWhatABusyServerDoesNotTakeIsSaidAgain also where it could not be carried out twice.
func TestWhatABusyServerDoesNotTakeIsSaidAgain(t *testing.T) {
	impatient(t)
	for _, call := range []string{"Login", "CreateContainerView"} {
		s, still := newSite(t, simulator.VPX()), times(3)
		s.set(func() {
			s.spoil = func(method string, w http.ResponseWriter) bool {
				if method != call || !still() {
					return false
				}
				w.WriteHeader(http.StatusServiceUnavailable)
				return true
			}
		})
		if _, err := s.connect(t).One(t.Context(), "DC0_H0_VM0"); err != nil {
			t.Errorf("%s: %v", call, err)
		}
		if n := s.count(call); n < 4 {
			t.Errorf("%s was said %d times", call, n)
		}
	}
}

func TestAServerThatStaysAwayIsGivenUp(t *testing.T) {
	impatient(t)
	untilLost = 50 * time.Millisecond
	s := newSite(t, simulator.VPX())
	session := s.connect(t)
	s.set(func() {
		s.spoil = func(method string, w http.ResponseWriter) bool {
			w.WriteHeader(http.StatusServiceUnavailable)
			return method == "CurrentTime"
		}
	})
	wantError(t, now(t, session), status(http.StatusServiceUnavailable), "503 Service Unavailable")
	s.set(func() { s.spoil = nil })
}

func TestAReadThatIsNotAnsweredIsAskedForAgain(t *testing.T) {
	impatient(t)
	was := answerIn
	answerIn = 200 * time.Millisecond
	t.Cleanup(func() { answerIn = was })
	s := newSite(t, simulator.VPX())
	session := s.connect(t)
	still := times(1)
	s.set(func() {
		s.spoil = func(method string, _ http.ResponseWriter) bool {
			if method == "CurrentTime" && still() {
				time.Sleep(600 * time.Millisecond)
				return true
			}
			return false
		}
	})
	if err := now(t, session); err != nil {
		t.Error(err)
	}
}

func TestAChangeWhoseAnswerWasLostIsNotRepeated(t *testing.T) {
	impatient(t)
	s := newSite(t, simulator.VPX())
	session := s.connect(t)
	s.set(func() { s.cut = func(method string) bool { return method == "PowerOffVM_Task" } })
	if err := powerOff(t, session, s); err == nil {
		t.Error("a call without an answer succeeded")
	}
	if n := s.count("PowerOffVM_Task"); n != 1 {
		t.Errorf("it was said %d times", n)
	}
}

func TestAChangeThatDidNotLeaveIsSaidWhenTheServerIsBack(t *testing.T) {
	impatient(t)
	s := newSite(t, simulator.VPX())
	session := s.connect(t)
	// Nothing listens there, until the address is the server's again.
	there := session.peer.address
	session.soap.DefaultTransport().DialContext = away(t, there, 3)
	session.soap.CloseIdleConnections()
	if err := powerOff(t, session, s); err != nil {
		t.Error(err)
	}
	if n := s.count("PowerOffVM_Task"); n != 1 {
		t.Errorf("it was said %d times", n)
	}
}

func TestASessionIsKeptAlive(t *testing.T) {
	s := newSite(t, simulator.VPX())
	options := s.model.Map().OptionManager()
	options.Setting = append(options.Setting, &types.OptionValue{Key: "config.vmacore.soap.sessionTimeout", Value: "1s"})
	was := aliveEvery
	aliveEvery = 50 * time.Millisecond
	t.Cleanup(func() { aliveEvery = was })
	session := s.connect(t)
	time.Sleep(2500 * time.Millisecond)
	if n := s.count("Login"); n != 1 {
		t.Errorf("it logged in %d times", n)
	}
	if len(s.sessions(t)) != 1 {
		t.Error("the session has ended")
	}
	session.stop()
	session.stop = func() {}
	time.Sleep(2500 * time.Millisecond)
	if n := len(s.sessions(t)); n != 0 {
		t.Fatalf("without use the server keeps %d sessions: this test proves nothing", n)
	}
	if err := now(t, session); err != nil {
		t.Error(err)
	}
}
