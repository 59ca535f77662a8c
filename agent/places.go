package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) storages(c *cobra.Command, _ []string) error {
	conn, err := a.dial()
	if err != nil {
		return err
	}
	list, err := conn.Storages(c.Context())
	if err != nil {
		return err
	}
	rows := [][]string{{"NAME", "USE", "SIZE", "FREE", "REACHED BY"}}
	for _, s := range list {
		room := []string{"", ""}
		if s.Size > 0 {
			room = []string{size(s.Size), size(s.Free)}
		}
		rows = append(rows, []string{s.Name, string(s.Use), room[0], room[1], strings.Join(s.Appliances, ", ")})
	}
	return a.table(rows)
}

func (a *app) appliances(c *cobra.Command, _ []string) error {
	conn, err := a.dial()
	if err != nil {
		return err
	}
	list, err := conn.Appliances(c.Context())
	if err != nil {
		return err
	}
	rows := [][]string{{"NAME", "VERSION", "ALIVE", "RUNNING", "STORAGES"}}
	for _, v := range list {
		alive := "no, heard of " + v.Heard.Format(time.RFC3339)
		if v.Alive {
			alive = "yes"
		}
		rows = append(rows, []string{v.Name, v.Version, alive, fmt.Sprintf("%d of %d", len(v.Running), v.Capacity), strings.Join(v.Storages, ", ")})
	}
	return a.table(rows)
}
