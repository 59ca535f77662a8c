package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hyper2kvm/agent/api/client"
)

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
	c.Flags().StringVar(&socket, "socket", strings.TrimPrefix(ownSocket, "unix:"), "the agent's Unix socket")
	return c
}

// answerTime is how long a local agent may take to answer.
const answerTime = 20 * time.Second

// firstCode asks an agent for a code.
func firstCode(ctx context.Context, socket string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTime, fmt.Errorf("the agent on %s does not answer within %v", socket, answerTime))
	defer cancel()
	c, err := client.New("unix:"+socket, client.Options{})
	if err != nil {
		return "", err
	}
	code, err := c.FirstCode(ctx)
	if err != nil {
		return "", codeless(ctx, socket, err)
	}
	return code, nil
}

// codeless is why there is no code.
func codeless(ctx context.Context, socket string, err error) error {
	var refusal *client.Refusal
	var op *net.OpError
	switch {
	case errors.As(err, &refusal) && refusal.Status == http.StatusUnauthorized:
		return errors.New("the agent gives its code to root and to its own user alone")
	case errors.As(err, &refusal):
		return errors.New(refusal.Error()) // there is none, and nothing that was given is wrong
	case ctx.Err() != nil:
		return err
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s may not be opened by this user: run this command as root", socket)
	case errors.As(err, &op) && op.Op == "dial":
		return fmt.Errorf("no agent answers on %s (%w): start it with hyper2kvm serve, or name its socket with --socket", socket, op.Err)
	}
	return fmt.Errorf("%s is not the socket of an agent: %w", socket, err)
}
