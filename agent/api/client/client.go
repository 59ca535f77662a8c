// Package client asks an appliance over its HTTP API. Most of it is made of the API's
// description.
package client
