// Package api is the agent's HTTP API. It is described in openapi.yaml first; the
// code that can be made of that is.
package api

import _ "embed"

// Description is the API's, OpenAPI 3.1 in YAML.
//
//go:embed openapi.yaml
var Description []byte
