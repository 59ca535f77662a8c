package vmwaretest_test

import (
	"context"
	"net/http"
	"slices"
	"testing"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/vmware/vmwaretest"
)

func TestAUserMayDoWhatIsGrantedWhereItIsGranted(t *testing.T) {
	s, root := started(t, vmwaretest.Options{})
	ctx := context.Background()
	mine := s.AddVM(t, vmwaretest.VM{Name: "mine", Folder: "Prod", Disks: []vmwaretest.Disk{{Size: 1 << 20}}})
	other := s.AddVM(t, vmwaretest.VM{Name: "other", Disks: []vmwaretest.Disk{{Size: 1 << 20}}})
	var m mo.VirtualMachine
	properties(t, root, mine.Ref, &m, "parent")
	s.AddUser("mover", "pw")
	s.Grant(t, "mover", *m.Parent, true, "VirtualMachine.State.CreateSnapshot", "VirtualMachine.Config.EditDevice")
	c := logIn(t, s, "mover", "pw")

	auth := object.NewAuthorizationManager(c.Client)
	result, err := auth.FetchUserPrivilegeOnEntities(ctx, []types.ManagedObjectReference{mine.Ref, other.Ref}, "mover")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(result[0].Privileges, "VirtualMachine.State.CreateSnapshot") || slices.Contains(result[0].Privileges, "VApp.Export") || len(result[1].Privileges) != 0 {
		t.Errorf("the privileges are %+v", result)
	}
	session, err := c.SessionManager.UserSession(ctx)
	if err != nil {
		t.Fatal(err)
	}
	has, err := auth.HasPrivilegeOnEntity(ctx, mine.Ref, session.Key, []string{"VirtualMachine.State.CreateSnapshot", "VApp.Export"})
	if err != nil || !slices.Equal(has, []bool{true, false}) {
		t.Errorf("has %v, %v", has, err)
	}
	permissions, err := auth.RetrieveEntityPermissions(ctx, mine.Ref, true)
	if err != nil || !slices.ContainsFunc(permissions, func(p types.Permission) bool { return p.Principal == "mover" && p.Propagate }) {
		t.Errorf("the permissions are %+v, %v", permissions, err)
	}

	task, err := object.NewVirtualMachine(c.Client, mine.Ref).CreateSnapshot(ctx, "x", "", false, false)
	wait(t, task, err)
	for what, try := range map[string]func(vm *object.VirtualMachine) error{
		"snapshot of another": func(*object.VirtualMachine) error {
			_, err := object.NewVirtualMachine(c.Client, other.Ref).CreateSnapshot(ctx, "x", "", false, false)
			return err
		},
		"export":   func(vm *object.VirtualMachine) error { _, err := vm.Export(ctx); return err },
		"power on": func(vm *object.VirtualMachine) error { _, err := vm.PowerOn(ctx); return err },
		"rename":   func(vm *object.VirtualMachine) error { _, err := vm.Rename(ctx, "x"); return err },
		"change tracking": func(vm *object.VirtualMachine) error {
			on := true
			_, err := vm.Reconfigure(ctx, types.VirtualMachineConfigSpec{ChangeTrackingEnabled: &on})
			return err
		},
		"attach": func(vm *object.VirtualMachine) error {
			return attach(t, c, vm.Reference(), other.Disks[0].Path, "persistent")
		},
	} {
		if err := try(object.NewVirtualMachine(c.Client, mine.Ref)); !fault.Is(err, &types.NoPermission{}) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if response, _ := fetch(t, c, withCookie(folderRequest(t, s, mine.Disks[0].Path, ""), s, c)); response.StatusCode != http.StatusForbidden {
		t.Errorf("/folder: %s", response.Status)
	}
}
