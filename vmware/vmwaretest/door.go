package vmwaretest

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25"
)

// Weather is what happens to HTTP requests whose path begins with a prefix: /sdk,
// /folder, /nfc, /rest. Zero values do no harm.
type Weather struct {
	Prefix string
	Method string        // of the API alone, for /sdk: CreateSnapshot_Task
	Times  int           // requests that it happens to; zero: all, until Clear
	Status int           // answered instead of what was asked for, such as 503
	Cut    int64         // bytes of the answer's body, after which the connection breaks
	Delay  time.Duration // before the answer
	Lost   bool          // what is asked for is done, and the answer lost
}

// Storm lets something happen to requests from now on, after what was to happen before.
func (s *Server) Storm(w Weather) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.weather = append(s.weather, &w)
}

// Clear ends all storms.
func (s *Server) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.weather = nil
}

// door is what every HTTP request goes through before the simulator sees it.
func (s *Server) door(inside http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", inside)
	mux.HandleFunc(folderPrefix, s.folderFiles)
	mux.HandleFunc("GET "+nfcPrefix+"{lease}/{file}", s.nfcFile)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.heard(r)
		if s.OnRequest != nil && s.OnRequest(r) {
			panic(http.ErrAbortHandler)
		}
		if now := s.weatherFor(r); now != nil {
			now.over(w, r, mux, s.closed)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// methodOf is the method of a request to /sdk, whose body is read and put back.
func methodOf(r *http.Request) string {
	if r.URL.Path != vim25.Path {
		return ""
	}
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	if found := bodyStart.FindSubmatch(body); found != nil {
		return string(found[1])
	}
	return ""
}

var bodyStart = regexp.MustCompile(`<(?:\w+:)?Body[^>]*><(\w+)`)

// weatherFor is what is to happen to a request.
func (s *Server) weatherFor(r *http.Request) *Weather {
	method := methodOf(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, w := range s.weather {
		if !strings.HasPrefix(r.URL.Path, w.Prefix) || w.Method != "" && w.Method != method {
			continue
		}
		if w.Times == 1 {
			s.weather = append(s.weather[:i:i], s.weather[i+1:]...)
		}
		if w.Times > 1 {
			w.Times--
		}
		return w
	}
	return nil
}

// over serves a request as the weather allows, unless the server ends meanwhile.
func (a *Weather) over(w http.ResponseWriter, r *http.Request, inside http.Handler, closed <-chan struct{}) {
	select {
	case <-time.After(a.Delay):
	case <-r.Context().Done():
		return
	case <-closed:
		return
	}
	if a.Status != 0 {
		http.Error(w, http.StatusText(a.Status), a.Status)
		return
	}
	if a.Lost {
		inside.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}
	if a.Cut > 0 {
		w = &cutShort{ResponseWriter: w, left: a.Cut}
	}
	inside.ServeHTTP(w, r)
}

// cutShort is an answer whose connection breaks after some bytes.
type cutShort struct {
	http.ResponseWriter
	left int64
}

// Write writes what may still be written.
func (c *cutShort) Write(p []byte) (int, error) {
	if int64(len(p)) < c.left {
		c.left -= int64(len(p))
		return c.ResponseWriter.Write(p)
	}
	_, _ = c.ResponseWriter.Write(p[:c.left])
	c.Flush()
	panic(http.ErrAbortHandler)
}

// Flush sends what was written.
func (c *cutShort) Flush() { _ = http.NewResponseController(c.ResponseWriter).Flush() }
