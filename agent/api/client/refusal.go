package client

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"hyper2kvm/agent/api/model"
)

// Refusal is what an appliance answers instead of what was asked for, or why an
// operation of its failed.
type Refusal struct{ model.Problem }

// Error is a sentence: what happened, and what to try.
func (r *Refusal) Error() string {
	text := r.Detail
	if r.Instance != "" && r.Status >= 500 {
		text += " (request " + r.Instance + ")"
	}
	if r.Try != "" {
		text += "; " + r.Try
	}
	return text
}

// maxAnswer is how large an answer may be that is read whole, bytes.
const maxAnswer = 64 << 20

// into is an answer in JSON, or the error that it tells.
func into[T any](reply *http.Response, err error) (v T, _ error) {
	if err != nil {
		return v, err
	}
	defer reply.Body.Close()
	if err := refused(reply); err != nil {
		return v, err
	}
	if err := json.NewDecoder(io.LimitReader(reply.Body, maxAnswer)).Decode(&v); err != nil {
		return v, fmt.Errorf("read the appliance's answer: %w", err)
	}
	return v, nil
}

// refused is the error that an answer tells; nil if it tells none.
func refused(reply *http.Response) error {
	if reply.StatusCode < 300 {
		return nil
	}
	r := &Refusal{model.Problem{Status: reply.StatusCode, Code: "no-api", Detail: "it answers " + reply.Status + ", which no appliance does", Try: "is it the address of one?"}}
	var p model.Problem
	if json.NewDecoder(io.LimitReader(reply.Body, maxAnswer)).Decode(&p) == nil && p.Code != "" {
		r.Problem = p
	}
	return r
}
