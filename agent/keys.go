package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline/source"
)

func (f *flags) addKeys(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.keys, "key", nil,
		"passphrase of an encrypted device: disk0p3:file:FILE, with the UUID of what is encrypted or all instead of the device, or prompt instead of file:FILE; with --appliance disk0p3:secret:NAME (may be repeated)")
}

// maxKeyFile is as large as cryptsetup takes key files. Source: cryptsetup(8),
// "NOTES ON PASSPHRASE PROCESSING".
const maxKeyFile = 8 << 20

// keyring is the keys of the flags called key. A passphrase on the command line
// would be seen by all on this machine, and is refused.
func (f *flags) keyring(a *app) (*guest.Keyring, error) {
	var keys []guest.Key
	for _, text := range f.keys {
		device, way, _ := strings.Cut(text, ":file:")
		if name, ok := strings.CutSuffix(text, ":prompt"); ok {
			device, way = name, ""
		}
		switch {
		case device == text || device == "":
			return nil, fmt.Errorf("%w: --key takes no passphrase, which others would see: write disk0p3:file:FILE, or disk0p3:prompt to be asked", errUsage)
		case way != "":
			secrets, err := readPassphrase("--key", way)
			if err != nil {
				return nil, err
			}
			keys = append(keys, guest.Key{For: device, Secrets: secrets})
		default:
			secret, err := a.ask("Passphrase for "+device, "--key "+device+":prompt")
			if err != nil {
				return nil, err
			}
			keys = append(keys, guest.Key{For: device, Secrets: []guest.Secret{secret}})
		}
	}
	if len(keys) == 0 {
		return nil, nil
	}
	return guest.NewKeyring(keys), nil
}

// readPassphrase reads a file with a passphrase that a flag names.
func readPassphrase(flag, name string) ([]guest.Secret, error) {
	return readSecret(flag, name, maxKeyFile, fmt.Sprintf("a passphrase has one at least, and %d MiB at most", maxKeyFile>>20))
}

// readSecret reads a file of at most so many bytes that a flag names; bounds say so. A
// line's end behind what is in it is usually not a part of it, and is tried without it
// first.
func readSecret(flag, name string, most int, bounds string) ([]guest.Secret, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", source.ErrBadInput, flag, err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, int64(most)+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %s: %w", source.ErrBadInput, flag, err)
	case len(data) == 0 || len(data) > most:
		return nil, fmt.Errorf("%w: %s: %s has %d bytes; %s", source.ErrBadInput, flag, name, len(data), bounds)
	}
	line := bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	if len(line) == len(data) || len(line) == 0 {
		return []guest.Secret{data}, nil
	}
	return []guest.Secret{bytes.Clone(line), data}, nil
}

// ask has somebody type a secret, or takes a line of standard input. What is asked for
// is said, and by which flag it is.
func (a *app) ask(what, flag string) (guest.Secret, error) {
	if in := int(os.Stdin.Fd()); term.IsTerminal(in) {
		fmt.Fprintf(a.stderr, "%s: ", what)
		secret, err := term.ReadPassword(in)
		fmt.Fprintln(a.stderr)
		return secret, err
	}
	line, err := a.lines().ReadBytes('\n')
	line = bytes.TrimRight(line, "\r\n")
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(line) == 0 {
		return nil, fmt.Errorf("%w: %s: there is no terminal, and no line on standard input", source.ErrBadInput, flag)
	}
	return line, nil
}

// lines reads standard input for all keys.
func (a *app) lines() *bufio.Reader {
	if a.stdin == nil {
		a.stdin = bufio.NewReader(os.Stdin)
	}
	return a.stdin
}
