package linux

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/inspect"
)

// cloudInit keeps cloud-init from setting the guest up anew. On KVM it does not
// find the datasource of VMware's that the instance was made from. Mostly it is
// not started then, and all stays. But where its configuration has it started all
// the same, it takes the guest for a new instance: it writes a network of its own,
// with DHCP on the first card, and makes new SSH host keys. It is told to go by
// what it remembers of the instance, and to leave the network alone.
//
// Source: cloud-init's tools/ds-identify, main and read_config; cmd/main.py,
// main_init; stages.py, _restore_from_checked_cache and _find_networking_config;
// its base configuration reference, manual_cache_clean.
var cloudInit = fixer.Fixer{
	Name:    "linux/cloud-init",
	Why:     "cloud-init does not find VMware's datasource on KVM, and would set up network and host keys of a new instance",
	Applies: onLinux,
	Plan: func(_ context.Context, g *guest.View, in fixer.Input) ([]fixer.Concern, error) {
		c := cloud{g: g, options: defaultOptions(in.Facts)}
		datasource, runs := c.lost(), c.runs()
		switch {
		case c.err != nil:
			return nil, c.err
		case datasource == "":
			return nil, nil
		case !runs:
			return []fixer.Concern{{
				Level: fixer.Info,
				Code:  "linux/cloud-init-not-started",
				Text:  fmt.Sprintf("cloud-init set this guest up from %s, finds no datasource on KVM and is not started; what it configured stays", datasource),
				Try:   "give the guest a NoCloud or ConfigDrive disk on KVM if cloud-init is to run again",
			}}, nil
		case !c.has("/var/lib/cloud/instance/obj.pkl"):
			return []fixer.Concern{{
				Level: fixer.Warning,
				Code:  "linux/cloud-init-new-instance",
				Text:  fmt.Sprintf("cloud-init set this guest up from %s, remembers nothing of it and finds no datasource on KVM: it sets up a new instance, with a network of its own", datasource),
				Try:   "disable cloud-init in the guest (touch /etc/cloud/cloud-init.disabled), and migrate again",
			}}, c.err
		}
		return nil, g.Write(cloudConfig, []byte(c.remember()))
	},
}

const cloudConfig = "/etc/cloud/cloud.cfg.d/99-hyper2kvm.cfg"

// cloud reads what decides whether cloud-init runs. Its first error stays.
type cloud struct {
	g       *guest.View
	options []string // of the kernel
	err     error
}

func defaultOptions(f inspect.Facts) []string {
	for _, k := range f.Kernels {
		if k.Default {
			return strings.Fields(k.Options)
		}
	}
	return nil
}

func (c *cloud) text(name string) string {
	text, err := c.g.ReadFile(name, guest.MaxText)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && c.err == nil {
		c.err = err
	}
	return string(text)
}

func (c *cloud) has(name string) bool {
	ok, err := c.g.Exists(name)
	if err != nil && c.err == nil {
		c.err = err
	}
	return ok
}

// option is the value of the first of the kernel's options that is there.
func (c *cloud) option(names ...string) string {
	for _, name := range names {
		for _, o := range c.options {
			if value, ok := strings.CutPrefix(o, name+"="); ok {
				return value
			}
		}
	}
	return ""
}

// lost is the datasource of the instance, if it was VMware's or on a CD-ROM; ""
// if it comes along, or if there is no instance.
func (c *cloud) lost() string {
	was := strings.TrimSpace(c.text("/var/lib/cloud/instance/datasource"))
	class, _, _ := strings.Cut(was, ":")
	if !c.has("/usr/bin/cloud-init") || strings.Contains(was, "/var/lib/cloud/seed") || c.has("/var/lib/cloud/instance/manual-clean") {
		return ""
	}
	if strings.HasPrefix(class, "DataSourceVMware") || strings.HasPrefix(class, "DataSourceOVF") || strings.Contains(was, "/dev/sr") {
		return class
	}
	return ""
}

// runs tells whether cloud-init is started though it finds no datasource.
func (c *cloud) runs() bool {
	if c.has("/etc/cloud/cloud-init.disabled") || c.option("cloud-init") == "disabled" || isSet(c.config(), "manual_cache_clean", "true") {
		return false
	}
	identify := ""
	for _, name := range []string{"/usr/lib/cloud-init/ds-identify", "/lib/cloud-init/ds-identify", "/usr/libexec/cloud-init/ds-identify"} {
		if c.has(name) {
			identify = name
		}
	}
	if identify == "" { // before 2017 nothing decided
		return c.started()
	}
	settings := c.text("/etc/cloud/ds-identify.cfg")
	if lastValue(settings, "datasource") != "" || c.option("ds", "ci.ds", "ci.datasource") != "" {
		return true
	}
	if sources := c.datasources(); len(sources) == 1 && sources[0] != "None" || len(sources) == 2 && sources[1] == "None" {
		return true // the only one is not looked for
	}
	policy := defaultPolicy.FindString(c.text(identify))
	return started(policy, lastValue(settings, "policy"), c.option("ci.di.policy"))
}

// defaultPolicy is the line of ds-identify that distributions change.
var defaultPolicy = regexp.MustCompile(`(?m)^DI_DEFAULT_POLICY=.*$`)

// started tells whether policies, each of them overriding what it says of those
// before, start cloud-init where no datasource is found.
func started(policies ...string) bool {
	mode, notFound := "search", "disabled"
	for _, p := range policies {
		p = strings.NewReplacer("DI_DEFAULT_POLICY=", "", `"`, "", "${DI_DISABLED}", "disabled", "${DI_ENABLED}", "enabled").Replace(p)
		for word := range strings.SplitSeq(p, ",") {
			if value, ok := strings.CutPrefix(word, "notfound="); ok {
				notFound = value
			}
			if slices.Contains([]string{"search", "report", "enabled", "disabled"}, word) {
				mode = word
			}
		}
	}
	return mode == "enabled" || mode == "report" || mode == "search" && notFound == "enabled"
}

// started tells whether a link starts cloud-init.
func (c *cloud) started() bool {
	for _, dir := range []string{"multi-user.target.wants", "cloud-init.target.wants"} {
		if info, err := c.g.Lstat(path.Join("/etc/systemd/system", dir, "cloud-init.service")); err == nil && info.Mode.Type() == fs.ModeSymlink {
			return true
		}
	}
	return false
}

// config is cloud-init's configuration as ds-identify reads it: line by line.
func (c *cloud) config() string {
	text := c.text("/etc/cloud/cloud.cfg") + "\n"
	files, err := listed(c.g, path.Dir(cloudConfig), ".cfg")
	if err != nil && c.err == nil {
		c.err = err
	}
	for _, file := range files {
		if file != cloudConfig {
			text += c.text(file) + "\n"
		}
	}
	return text
}

// datasources are those that are looked for; none when nothing says which.
func (c *cloud) datasources() []string {
	list := strings.Trim(lastValue(c.config(), "datasource_list"), "[] ")
	return strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(`,'" `, r) })
}

// lastValue is the value of the last line that sets a key.
func lastValue(text, key string) string {
	value := ""
	for _, line := range splitLines([]byte(text)) {
		line, _, _ = strings.Cut(line, "#")
		k, v, ok := strings.Cut(line, ":")
		if ok && strings.Trim(k, `"' `+"\t") == key {
			value = strings.Trim(v, `"' `+"\t\r\n")
		}
	}
	return value
}

func isSet(text, key, value string) bool { return strings.EqualFold(lastValue(text, key), value) }

// remember is the configuration that makes cloud-init go by its memory. A network
// of the administrator's own, in cloud-init's configuration, is no fallback and
// stays in charge.
func (c *cloud) remember() string {
	const memory = `# VMware's datasource, which this instance was set up from, is not there on KVM.
# To set the guest up anew, remove this file and run "cloud-init clean".
manual_cache_clean: true
`
	if ownNetwork.MatchString(c.config()) {
		return memory
	}
	return memory + "network: {config: disabled}\n"
}

var ownNetwork = regexp.MustCompile(`(?m)^["']?network["']?[ \t]*:`)
