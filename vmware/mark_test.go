package vmware

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	vapi "github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/vmware/vmwaretest"
)

// markRig has a VM that is off.
func markRig(t *testing.T) (*rig, *Hand, *pages, string) {
	t.Helper()
	r := newRig(t, vmwaretest.Options{})
	r.vm(r.source).Runtime.PowerState = types.VirtualMachinePowerStatePoweredOff
	ledger := new(pages)
	return r, r.hand(t, ledger), ledger, r.source.Ref.Value
}

var allMarks = Marks{Note: "moved on {date} by {migration}", DisconnectNICs: true, Tag: Tag{"hyper2kvm", "migrated"}, CreateTag: true,
	Rename: "{name}-moved", Folder: "/DC0/vm/Moved"}

func TestMarksAreMadeOnce(t *testing.T) {
	r, h, ledger, vm := markRig(t)
	ctx := context.Background()
	if err := h.Mark(ctx, vm, allMarks); err != nil {
		t.Fatal(err)
	}
	marked := r.inventory(t)
	if err := h.Mark(ctx, vm, allMarks); err != nil {
		t.Fatal(err)
	}
	r.same(t, marked, "marked again")
	v := r.vm(r.source)
	if !strings.HasPrefix(v.Config.Annotation, "owner: web team\nmoved on 20") || !strings.HasSuffix(v.Config.Annotation, " by "+migration) {
		t.Errorf("its note is %q", v.Config.Annotation)
	}
	if slices.Contains(ledger.states(), "name noted") || !strings.HasSuffix(v.Name, "a-moved") {
		t.Errorf("it is called %s, %q", v.Name, ledger.states())
	}
	for _, d := range v.Config.Hardware.Device {
		if _, ok := d.(types.BaseVirtualEthernetCard); ok && d.GetVirtualDevice().Connectable.StartConnected {
			t.Errorf("NIC %d connects at start", d.GetVirtualDevice().Key)
		}
	}
}

func TestWhatSomebodyChangedSinceStays(t *testing.T) {
	r, h, ledger, vm := markRig(t)
	ctx := context.Background()
	if err := h.Mark(ctx, vm, allMarks); err != nil {
		t.Fatal(err)
	}
	r.vm(r.source).Name = "archived"
	err := h.Restore(ctx)
	if !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), "archived") {
		t.Errorf("Restore = %v", err)
	}
	for _, s := range ledger.states() {
		if want := s == "name left"; want != strings.HasSuffix(s, "left") || !want && !strings.HasSuffix(s, "undone") {
			t.Errorf("trace %s", s)
		}
	}
	if v := r.vm(r.source); v.Name != "archived" || v.Config.Annotation != "owner: web team" {
		t.Errorf("it is called %s, with the note %q", v.Name, v.Config.Annotation)
	}
}

func TestMarksThatCannotBeMadeAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		marks Marks
		says  string
	}{
		"no such folder":        {Marks{Folder: "/DC0/vm/Nowhere"}, "/DC0/vm/Nowhere"},
		"a folder that is none": {Marks{Folder: "/DC0"}, "write its path"},
		"a name that is long":   {Marks{Rename: strings.Repeat("x", 81)}, "81 characters"},
		"a tag that is not":     {Marks{Tag: Tag{"nothing", "such"}}, "allow that it is made"},
	} {
		r, h, ledger, vm := markRig(t)
		before := r.inventory(t)
		if err := h.Mark(context.Background(), vm, c.marks); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: Mark = %v, want %q in it", name, err, c.says)
		}
		if len(ledger.list) > 0 {
			t.Errorf("%s: %q noted", name, ledger.states())
		}
		r.same(t, before, name)
	}
}

// A tag that others use by now stays, and so does its category.
func TestATagThatOthersUseStays(t *testing.T) {
	r, h, _, vm := markRig(t)
	ctx := context.Background()
	if err := h.Mark(ctx, vm, Marks{Tag: allMarks.Tag, CreateTag: true}); err != nil {
		t.Fatal(err)
	}
	other := r.hand(t, new(pages))
	other.Migration = "another"
	off := r.AddVM(t, vmwaretest.VM{Name: "off"})
	if err := other.Mark(ctx, off.Ref.Value, Marks{Tag: allMarks.Tag}); err != nil {
		t.Fatal(err)
	}
	if err := h.Restore(ctx); err != nil {
		t.Fatal(err)
	}
	if got := r.tags(t); !slices.Equal(got, []string{"category hyper2kvm", "tag migrated on [{VirtualMachine " + off.Ref.Value + "}]"}) {
		t.Errorf("there are %q", got)
	}
}

// TestATagThatSomebodyRemovedIsGone, and so is its category: there is nothing to take back.
func TestATagThatSomebodyRemovedIsGone(t *testing.T) {
	r, h, _, vm := markRig(t)
	ctx := context.Background()
	if err := h.Mark(ctx, vm, Marks{Tag: allMarks.Tag, CreateTag: true}); err != nil {
		t.Fatal(err)
	}
	err := r.hand(t, new(pages)).tagging(ctx, func(tm *vapi.Manager) error {
		list, err := tm.GetCategories(ctx)
		for _, c := range list {
			err = errors.Join(err, tm.DeleteCategory(ctx, &c))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Storm(vmwaretest.Weather{Prefix: "/rest/com/vmware/cis/tagging/tag/id:", Status: http.StatusNotFound}) // as a vCenter says
	if err := h.Restore(ctx); err != nil {
		t.Fatal(err)
	}
	if got := r.tags(t); len(got) > 0 {
		t.Errorf("there are %q", got)
	}
}

func TestAnAnswerOfTheInterfaceForTagsIsRead(t *testing.T) {
	if err := refused(&url.Error{Op: "Post", Err: status(http.StatusForbidden)}); !errors.Is(err, ErrPrivilege) {
		t.Errorf("a user who may not: %v", err)
	}
	if err := refused(&url.Error{Op: "Post", Err: status(http.StatusBadGateway)}); errors.Is(err, ErrPrivilege) {
		t.Errorf("a server that is away: %v", err)
	}
}

// recorder keeps what is sent.
type recorder struct {
	http.RoundTripper
	sent bytes.Buffer
}

func (c *recorder) RoundTrip(r *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(r.Body)
	c.sent.Write(body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	return c.RoundTripper.RoundTrip(r)
}

// The simulator leaves an annotation that is to be empty, so that what is sent is looked at.
func TestAnAnnotationIsEmptiedAgain(t *testing.T) {
	r, h, ledger, vm := markRig(t)
	r.vm(r.source).Config.Annotation = ""
	ctx := context.Background()
	if err := h.Mark(ctx, vm, Marks{Note: "moved"}); err != nil {
		t.Fatal(err)
	}
	c := &recorder{RoundTripper: h.Session.client.Client.Client.Transport}
	h.Session.client.Client.Client.Transport = c
	if err := h.Restore(ctx); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(c.sent.String(), "<annotation></annotation>") {
		t.Errorf("sent %s, %q", c.sent.String(), ledger.states())
	}
}
