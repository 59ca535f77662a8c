package config

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"hyper2kvm/agent/layers"
)

// host is what defaults are worked out from.
type host struct {
	name   string
	cpus   int
	memory int64 // bytes
}

func thisHost() (host, error) {
	name, err := os.Hostname()
	if err != nil {
		return host{}, err
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return host{}, err
	}
	return host{name, runtime.NumCPU(), int64(info.Totalram) * int64(info.Unit)}, nil
}

// capacity is how many migrations a host bears at once. Each keeps about two CPUs busy
// with digests and compression, takes a quarter of a GiB, and in its boot test a
// machine's memory besides, for which most of 2 GiB is left.
func (h host) capacity() int {
	const most = 16
	byMemory := int((h.memory - 1<<30) / (2 << 30))
	return max(1, min(h.cpus/2, byMemory, most))
}

// fill is the settings with what is known of the host in the fields that they lack.
func (h host) fill(v *layers.Value) *layers.Value {
	if appliance := v.Fields["appliance"]; appliance.Fields["name"] == nil {
		name := &layers.Value{Origin: layers.Origin{Why: "the host's name"}, Scalar: h.name}
		v = v.With("appliance", appliance.With("name", name))
	}
	if v.Fields["capacity"] == nil {
		why := fmt.Sprintf("for %d CPUs and %d MiB", h.cpus, h.memory>>20)
		v = v.With("capacity", &layers.Value{Origin: layers.Origin{Why: why}, Scalar: int64(h.capacity())})
	}
	return v
}
