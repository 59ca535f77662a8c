package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"hyper2kvm/agent/api/client"
)

// agentSocket is where the agent answers unless its settings say otherwise.
const agentSocket = "/run/hyper2kvm/agent.sock"

// codeAdvice is what to do with a code.
const codeAdvice = `It makes the first admin, once. Give it to the appliance over HTTPS with a name and a
password:
    POST /api/v1/setup {"code": "…", "name": "…", "password": "…"}
Asking for another code makes this one worthless.
`

func (a *app) code() *cobra.Command {
	var socket string
	c := &cobra.Command{
		Use: "code", Short: "Print the one-time code that makes the first admin of this machine's agent", Args: noArgs,
		Long: `Print the one-time code that makes the first admin of this machine's agent, to standard
output, and what to do with it to standard error. It has to be asked for on the machine
itself, by root or the agent's user, and only as long as nobody has access.`,
		RunE: func(c *cobra.Command, _ []string) error {
			code, err := firstCode(c.Context(), socket)
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintln(a.stdout, code); err != nil {
				return err
			}
			_, err = io.WriteString(a.stderr, codeAdvice)
			return err
		},
	}
	c.Flags().StringVar(&socket, "socket", agentSocket, "the agent's Unix socket")
	return c
}

// answerTime is how long a local agent may take to answer.
const answerTime = 20 * time.Second

// firstCode asks an agent for a code.
func firstCode(ctx context.Context, socket string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTime, fmt.Errorf("the agent on %s does not answer within %v", socket, answerTime))
	defer cancel()
	c, err := client.NewClient("http://agent/api/v1", client.WithHTTPClient(local(socket)))
	if err != nil {
		return "", err
	}
	reply, err := c.MakeFirstCode(ctx)
	if err != nil {
		return "", unheard(ctx, socket, err)
	}
	defer reply.Body.Close()
	var said struct{ Code, Detail, Try string } // a code, or a problem
	if err := json.NewDecoder(io.LimitReader(reply.Body, 64<<10)).Decode(&said); err != nil {
		return "", fmt.Errorf("%s is not the socket of an agent: %w", socket, err)
	}
	switch reply.StatusCode {
	case http.StatusOK:
		return said.Code, nil
	case http.StatusUnauthorized:
		return "", errors.New("the agent gives its code to root and to its own user alone")
	}
	return "", fmt.Errorf("%s; %s", said.Detail, said.Try)
}

// local reaches the agent of this machine.
func local(socket string) *http.Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
}

// unheard is why an agent could not be asked.
func unheard(ctx context.Context, socket string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s may not be opened by this user: run this command as root", socket)
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return fmt.Errorf("no agent answers on %s (%w): start it with hyper2kvm serve, or name its socket with --socket", socket, op.Err)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
