package vmwaretest

import (
	"net/http"
	"strings"
)

// door is what every HTTP request goes through before the simulator sees it.
func (s *Server) door(inside http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, folderPrefix) {
			s.folderFiles(w, r)
			return
		}
		inside.ServeHTTP(w, r)
	})
}
