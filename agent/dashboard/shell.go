package dashboard

import (
	"context"
	"io"
	"os"

	tea "charm.land/bubbletea/v2"

	"hyper2kvm/pipeline/proc"
)

// shell is one on a terminal. It implements tea.ExecCommand, and keeps to the terminal
// that it was made with.
type shell struct {
	ctx      context.Context
	terminal *os.File
}

// Shell is a shell on a terminal, ended with ctx.
func Shell(ctx context.Context, terminal *os.File) tea.ExecCommand { return shell{ctx, terminal} }

// Run implements tea.ExecCommand. How the shell's last command ended is nobody's business.
func (s shell) Run() error {
	_, err := proc.Command{Name: "bash", Args: []string{"-l"}, On: s.terminal}.Run(s.ctx)
	if _, ended := err.(*proc.Error); ended {
		return nil
	}
	return err
}

func (shell) SetStdin(io.Reader)  {}
func (shell) SetStdout(io.Writer) {}
func (shell) SetStderr(io.Writer) {}
