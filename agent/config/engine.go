package config

import (
	"fmt"
	"slices"
)

// engine holds the engine's parts to its shape. How many may vote is in the schema.
func (c *checker) engine() {
	e := c.Engine
	parts := []struct {
		shape string
		given bool
		must  bool // what it needs cannot be guessed
	}{
		{HubShape, e.Hub != nil, false},
		{WorkerShape, e.Worker != nil, true},
		{ClusterShape, e.Cluster != nil, true},
		{External, e.External != nil, true},
	}
	for _, p := range parts {
		switch {
		case p.given && e.Shape != p.shape:
			c.wrong("engine."+p.shape, "the shape is %s: write shape: %s, or %[2]s: null to remove it", e.Shape, p.shape)
		case !p.given && p.must && e.Shape == p.shape:
			c.wrong("engine.shape", "is %s, and engine.%[1]s is not there: say in it what it joins", p.shape)
		}
	}
	if e.Cluster != nil {
		c.cluster(e.Cluster)
	}
	if e.Hub != nil {
		c.address("engine.hub.listen", e.Hub.Listen)
	}
	if e.Worker != nil {
		c.address("engine.worker.hub", e.Worker.Hub)
	}
}

func (c *checker) cluster(cluster *Cluster) {
	c.address("engine.cluster.listen", cluster.Listen)
	if cluster.Workers != "" {
		c.address("engine.cluster.workers", cluster.Workers)
	}
	if !slices.ContainsFunc(cluster.Peers, func(p Peer) bool { return p.Name == c.Appliance.Name }) {
		c.wrong("engine.cluster.peers", "none is this appliance, %s: name all that vote, or set appliance.name", c.Appliance.Name)
	}
	for i, p := range cluster.Peers {
		at := fmt.Sprintf("engine.cluster.peers.%d.", i)
		c.address(at+"address", p.Address)
		for _, before := range cluster.Peers[:i] {
			if before.Name == p.Name || before.Address == p.Address {
				c.wrong(at+"name", "%s is there twice: each peer has a name and an address of its own", p.Name)
			}
		}
	}
}
