package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hyper2kvm/agent/api/client"
	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/config"
	"hyper2kvm/agent/fleet"
	"hyper2kvm/agent/serve"
	"hyper2kvm/fixers/guest"
)

// fleet has the commands by which appliances become one.
func (a *app) fleet() *cobra.Command {
	c := &cobra.Command{
		Use: "fleet", Short: "Let appliances join one another, and list and remove them",
		Long: `Several appliances share their migrations: a hub with workers, or 3 or 5 that vote. One
makes a token with fleet invite; the new one joins with it, once, by fleet join, and
has its place in the settings: see docs/fleet.md.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("%w: fleet has no command %q: see hyper2kvm fleet --help", errUsage, args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.invite(), a.join(),
		a.asking("invitations", "List the invitations, and what became of them", noArgs, a.invitations),
		a.asking("withdraw INVITATION", "Make a token worthless that was not used", oneArg("INVITATION"), func(ctx context.Context, conn *client.Conn, args []string) error {
			return conn.Withdraw(ctx, args[0])
		}),
		a.asking("list", "List the appliances, and whether each is there", noArgs, a.members),
		a.asking("remove APPLIANCE", "Let an appliance in no more; others finish what it worked on", oneArg("APPLIANCE"), a.removeMember))
	return c
}

// asking is a command of a command's that asks an appliance.
func (a *app) asking(use, short string, args cobra.PositionalArgs, run func(ctx context.Context, conn *client.Conn, args []string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: args, Annotations: map[string]string{asks: "always"},
		RunE: func(c *cobra.Command, args []string) error {
			conn, err := a.dial()
			if err != nil {
				return err
			}
			return run(c.Context(), conn, args)
		}}
}

func (a *app) invite() *cobra.Command {
	var r model.InvitationRequest
	var voting bool
	var within time.Duration
	c := a.asking("invite", "Print a token with which one appliance may join, once", noArgs, func(ctx context.Context, conn *client.Conn, _ []string) error {
		r.Role, r.Seconds = model.FleetRole(fleet.Worker), int(within.Seconds())
		if voting {
			r.Role = model.FleetRole(fleet.Voting)
		}
		t, err := conn.Invite(ctx, r)
		if err != nil {
			return err
		}
		fmt.Fprintf(a.stderr, "for one appliance (%s), until %s: run hyper2kvm fleet join TOKEN there\n", t.Invitation.Role, t.Invitation.Expires.Local().Format(time.DateTime))
		return a.print(t.Token + "\n")
	})
	c.Long = `Print a token with which one appliance may join, once, as a worker or as one that
votes. Who has it can join and read what the fleet keeps secret: hand it on as you
would a password.`
	c.Flags().BoolVar(&voting, "voting", false, "for one of 3 or 5 that vote, instead of a worker")
	c.Flags().StringArrayVar(&r.Addresses, "address", nil, "host and port at which the new appliance reaches this API (may be repeated; default: as this appliance knows them)")
	c.Flags().DurationVar(&within, "within", fleet.DefaultInvitation, "how long the token can be used, 168h at most")
	return c
}

func (a *app) invitations(ctx context.Context, conn *client.Conn, _ []string) error {
	list, err := conn.Invitations(ctx)
	if err != nil {
		return err
	}
	rows := [][]string{{"ID", "ROLE", "BY", "STATE"}}
	for _, i := range list {
		rows = append(rows, []string{i.ID, string(i.Role), i.By, became(i, time.Now())})
	}
	return a.table(rows)
}

// became is how an invitation stands.
func became(i model.Invitation, now time.Time) string {
	switch {
	case !i.Used.IsZero():
		return "used " + i.Used.Local().Format(time.DateTime) + " by " + i.Appliance
	case now.After(i.Expires):
		return "ran out " + i.Expires.Local().Format(time.DateTime)
	}
	return "open until " + i.Expires.Local().Format(time.DateTime)
}

func (a *app) members(ctx context.Context, conn *client.Conn, _ []string) error {
	list, err := conn.Appliances(ctx)
	if err != nil {
		return err
	}
	rows := [][]string{{"ID", "NAME", "VERSION", "ALIVE", "RUNNING"}}
	for _, m := range list {
		alive := "no, heard of " + m.Heard.Format(time.RFC3339)
		if m.Alive {
			alive = "yes"
		}
		rows = append(rows, []string{m.ID, m.Name, m.Version, alive, fmt.Sprintf("%d of %d", len(m.Running), m.Capacity)})
	}
	return a.table(rows)
}

// removeMember takes an appliance's ID, or its name if no other has it.
func (a *app) removeMember(ctx context.Context, conn *client.Conn, args []string) error {
	list, err := conn.Appliances(ctx)
	if err != nil {
		return err
	}
	id := args[0]
	var named []string
	for _, m := range list {
		if m.Name == id {
			named = append(named, m.ID)
		}
	}
	switch len(named) {
	case 0:
	case 1:
		id = named[0]
	default:
		return fmt.Errorf("%w: several appliances have the name %s: give one of their IDs, %s", errUsage, id, strings.Join(named, ", "))
	}
	return conn.RemoveAppliance(ctx, id)
}

func (a *app) join() *cobra.Command {
	var files []string
	var c *cobra.Command
	c = part("join TOKEN", "Make this appliance one of the fleet that a token is of", oneArg("TOKEN"), func(args []string) error {
		if a.remote() {
			return fmt.Errorf("%w: join is not for --appliance: run it on the appliance that is to join", errUsage)
		}
		s, err := config.Load(files...)
		if err != nil {
			return err
		}
		token, err := tokenOf(args[0], os.Stdin)
		if err != nil {
			return err
		}
		defer token.Wipe()
		return a.joined(c.Context(), s, token)
	})
	c.Long = `Make this appliance one of the fleet that a token is of. TOKEN is what fleet invite has
printed there, or - to read it from standard input. The agent must not run here
meanwhile. Then say in its settings what it joins, and start it.`
	c.Flags().StringArrayVar(&files, "config", nil, "file of settings, or a folder of *.yaml files (may be repeated; each lies over the one before)")
	return c
}

// tokenOf is a token that was given, or is read.
func tokenOf(text string, in io.Reader) (guest.Secret, error) {
	if text != "-" {
		return guest.Secret(text), nil
	}
	const most = 8 << 10
	read, err := io.ReadAll(io.LimitReader(in, most))
	if err == nil && len(strings.TrimSpace(string(read))) == 0 {
		err = errors.New("there is no token on standard input")
	}
	return read, err
}

func (a *app) joined(ctx context.Context, s *config.Settings, token guest.Secret) error {
	m, aside, err := serve.Join(ctx, s, token)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("joined as %s, %s\n", m.ID(), m.Role())
	if aside != "" {
		text += "what this appliance has kept by itself is in " + aside + "\n"
	}
	switch {
	case m.Role() == fleet.Voting:
		text += "now give all that vote the shape cluster, and start them\n"
	case len(m.Hubs()) > 0:
		text += fmt.Sprintf("now set engine: {shape: worker, worker: {hub: '%s'}}, and start the agent\n", m.Hubs()[0])
	default:
		text += "now set engine: {shape: hub} there, engine: {shape: worker, worker: {hub: 'HOST:4222'}} here, and start both\n"
	}
	return a.print(text)
}
