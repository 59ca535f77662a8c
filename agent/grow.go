package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"hyper2kvm/pipeline"
)

func (f *flags) addGrow(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.grow, "grow", nil,
		"disk to make larger, with its last partition and file system: 0=20G is its size, 0=+4G what is added; 0=+4G:srv names a logical volume (may be repeated)")
}

// growth is what the flags called grow say.
func (f *flags) growth() ([]pipeline.Growth, error) {
	list, err := pipeline.ParseGrowth(f.grow)
	if err != nil {
		return nil, fmt.Errorf("%w: --grow: %w", errUsage, err)
	}
	return list, nil
}
