package dashboard

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/pipeline/accel"
)

// style is how a line looks.
type style string

// The styles, by their parameters of SGR (ECMA-48, 8.3.117). All are among the 16 colours
// of a console, and what a style says is said by words too.
const (
	normal style = ""
	head   style = "1"
	good   style = "32"
	warn   style = "1;33"
	bad    style = "1;31"
	bars   style = "7" // at the top and the bottom
)

// line is one of the screen's.
type line struct {
	text  string
	style style
}

func (l line) paint() string {
	if l.style == normal {
		return l.text
	}
	return "\x1b[" + string(l.style) + "m" + l.text + "\x1b[m"
}

// page is lines that are written one after the other.
type page struct {
	width int
	lines []line
}

// indent is how far the words stand right of what they are about.
const indent = 2

func (p *page) head(text string) {
	if len(p.lines) > 0 {
		p.lines = append(p.lines, line{})
	}
	p.say(head, 0, text)
}

// say writes a text of ours or of anyone's, in as many lines as it needs. What goes on
// stands further right.
func (p *page) say(s style, in int, text string) {
	further := in
	if in > 0 && p.width > 4*in {
		further += indent
	}
	for i, part := range wrap(plain(text), p.width-further) {
		if i == 1 {
			in = further
		}
		p.lines = append(p.lines, line{strings.Repeat(" ", in) + part, s})
	}
}

// mostWords is how much of what somebody else says is shown, letters.
const mostWords = 240

// short is what somebody else says, cut.
func short(text string) string { return fit(plain(text), mostWords) }

// row writes one line, cut to the width.
func (p *page) row(s style, text string) {
	p.lines = append(p.lines, line{fit(strings.Repeat(" ", indent)+plain(text), p.width), s})
}

// body is all that is shown of a status. The code is shown if it may be.
func body(s Status, width int, secret bool) []line {
	p := &page{width: width}
	p.where(s)
	p.certificate(s)
	p.code(s, secret)
	p.health(s)
	p.problems(s.Problems)
	p.running(s.Jobs)
	p.ended(s.Jobs)
	return p.lines
}

// where is how the appliance is reached.
func (p *page) where(s Status) {
	p.head("Open in a browser")
	shown := len(p.lines)
	for _, l := range s.Links {
		for _, a := range l.Addresses {
			url, how, silent := address(s.Listen, a.Prefix.Addr()), faulty(a.Fault, good), ""
			if url == "" {
				url, how, silent = a.Prefix.Addr().String(), warn, "the agent does not listen there"
			}
			p.say(how, indent, join("; ", url+" ("+l.Name+", "+a.How+")", a.Fault, noCarrier(l), silent))
		}
	}
	for _, l := range s.Links {
		if len(l.Addresses) == 0 {
			p.row(normal, l.Name+": "+without(l))
		}
	}
	if s.LinkFault != "" {
		p.say(bad, indent, "The network cards are not known: "+s.LinkFault)
	}
	if len(p.lines) == shown && s.Links != nil {
		p.say(bad, indent, "This machine has no network card that works. Add one, such as vmxnet3 or virtio, and restart it.")
	}
}

func faulty(fault string, otherwise style) style {
	if fault != "" {
		return bad
	}
	return otherwise
}

func noCarrier(l Link) string {
	if l.Up {
		return ""
	}
	return "no link"
}

func without(l Link) string {
	if l.Up {
		return "link, and no address yet"
	}
	return "no link: is its cable, or its network in vSphere, connected?"
}

// join puts texts together that are not empty.
func join(with string, texts ...string) string {
	var said []string
	for _, t := range texts {
		if t != "" {
			said = append(said, t)
		}
	}
	return strings.Join(said, with)
}

// address is the URL of one of this machine's addresses; "" if the agent does not listen
// on it.
func address(listen string, ip netip.Addr) string {
	host, port, err := net.SplitHostPort(listen)
	only, bad := netip.ParseAddr(host)
	if err != nil || bad == nil && !only.IsUnspecified() && only != ip {
		return ""
	}
	text := ip.String()
	if ip.Is6() {
		text = "[" + text + "]"
	}
	if port != "443" {
		text += ":" + port
	}
	return "https://" + text + "/"
}

func (p *page) certificate(s Status) {
	if s.Fingerprint == "" {
		return
	}
	p.head("SHA-256 fingerprint of its certificate, to compare in the browser")
	const half = 48 // of the 95 characters
	p.say(normal, indent, s.Fingerprint[:min(half, len(s.Fingerprint))])
	p.say(normal, indent, s.Fingerprint[min(half, len(s.Fingerprint)):])
}

func (p *page) code(s Status, secret bool) {
	switch {
	case s.Code.State == CodeMade && secret:
		p.head("One-time code that makes the first admin")
		p.say(warn, indent, s.Code.Text)
	case s.Code.State == CodeMade:
		p.head("The one-time code that makes the first admin is hidden")
	case s.Code.State == CodeElsewhere:
		p.head("A one-time code for the first admin was made elsewhere; F3 makes another")
	}
}

func (p *page) health(s Status) {
	p.head("This appliance")
	p.agent(s.Agent)
	p.host(s.Host)
	p.update(s.Update)
	p.disk(s.Disk)
}

const clock = "2006-01-02 15:04 MST"

func (p *page) agent(h Health) {
	switch {
	case !h.Known:
		p.say(normal, indent, "Agent: is asked")
	case !h.Answers:
		p.say(bad, indent, fmt.Sprintf("Agent: does not answer since %s (%s).%s It is started again by itself; if it stays away for minutes, restart the machine with F10: migrations go on where they were.", h.Since.Format(clock), short(h.Why), lastWords(h.Ended)))
	case h.Why != "":
		p.say(bad, indent, "Agent: answers, and is not ready: "+short(h.Why))
	default:
		p.say(good, indent, "Agent: ready")
	}
}

// lastWords are the agent's, as a sentence behind another one.
func lastWords(ended string) string {
	if ended == "" {
		return ""
	}
	return " It has ended: " + short(ended) + "."
}

// host tells what this machine can run. The reason names the setting of vSphere's that
// would change it, where there is one.
func (p *page) host(h *model.Host) {
	switch {
	case h == nil:
		return
	case h.Accelerator == accel.KVM:
		p.say(good, indent, "Boot tests: with KVM, which was tried and works")
	case h.Accelerator == "":
		p.say(bad, indent, "Boot tests: what this machine can run was not found out: "+short(h.Reason))
	default:
		p.say(warn, indent, "Boot tests: emulated, which is slow: "+short(h.Reason))
	}
	for _, m := range h.Missing {
		p.say(bad, indent, "Missing: "+short(m))
	}
}

func (p *page) update(u Update) {
	switch {
	case u.Text == "":
	case u.Failed:
		p.say(bad, indent, "Update: "+short(u.Text))
	default:
		p.say(warn, indent, "Update: "+short(u.Text))
	}
}

func (p *page) disk(d Disk) {
	const little = 20 // of which less than one part is free
	switch {
	case d.Path == "":
	case d.Fault != "":
		p.say(bad, indent, "State: "+short(d.Path+": "+d.Fault))
	case d.Free < d.Size/little:
		p.say(bad, indent, fmt.Sprintf("State: only %s of %s free on %s: forget migrations that have ended, or give the disk more room", size(d.Free), size(d.Size), short(d.Path)))
	default:
		p.say(normal, indent, fmt.Sprintf("State: %s of %s free on %s", size(d.Free), size(d.Size), short(d.Path)))
	}
}

func (p *page) problems(list []string) {
	if len(list) == 0 {
		return
	}
	p.head("Problems")
	for _, text := range list {
		p.say(bad, indent, short(text))
	}
}
