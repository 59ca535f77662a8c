package main

import (
	"io"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/spf13/cobra"

	"hyper2kvm/agent/api"
)

// reach are the operations of the API by which an appliance is asked for the work of each
// command; unreached are the commands without one, with why that is so.
var reach = map[string]string{
	"migrate":           "createMigration readOperation followEvents readMigration listFiles readFile",
	"rehearse":          "createMigration readOperation followEvents readMigration listFiles readFile",
	"apply":             "createMigration readOperation followEvents readMigration listFiles readFile",
	"inspect":           "createMigration readOperation readFacts cancelMigration forgetMigration",
	"plan":              "createMigration readOperation readPlan cancelMigration forgetMigration",
	"test":              "createMigration testMigration readOperation readMigration listFiles readFile",
	"verify":            "verifyMigration readOperation",
	"undo":              "undoMigration readOperation readFile",
	"probe":             "readHost",
	"list":              "listMigrations",
	"show":              "readMigration listFiles",
	"events":            "followEvents",
	"approve":           "readPlan approvePlan",
	"pause":             "pauseMigration",
	"resume":            "resumeMigration",
	"retry":             "retryMigration",
	"cancel":            "cancelMigration",
	"forget":            "forgetMigration",
	"download":          "listFiles readFile",
	"upload":            "uploadPart readUpload putLibrary readLibraryUpload",
	"backup":            "makeBackup",
	"support-bundle":    "makeSupportBundle",
	"storages":          "listStorages",
	"appliances":        "listAppliances",
	"batch submit":      "submitBatch",
	"batch list":        "listBatches",
	"batch show":        "readBatch",
	"batch pause":       "orderBatch",
	"batch resume":      "orderBatch",
	"batch cancel":      "orderBatch",
	"batch retry":       "orderBatch",
	"batch forget":      "forgetBatch",
	"image make":        "makeDownload readDownload fetchDownload",
	"image fetch":       "readDownload fetchDownload",
	"image list":        "listDownloads",
	"image remove":      "removeDownload",
	"fleet invite":      "invite",
	"fleet invitations": "listInvitations",
	"fleet withdraw":    "withdrawInvitation",
	"fleet list":        "listAppliances",
	"fleet remove":      "removeAppliance",
	"disks use":         "listDisks readDisk useDisk",
	"disks release":     "releaseDisk",
	"vsphere check":     "checkServer",
	"vsphere vms":       "listVMs",
}

var unreached = map[string]string{
	"serve":             "it is the appliance",
	"restore":           "it makes the appliance, which does not run yet",
	"code":              "whoever gets it over a network could be anybody",
	"usb-write":         "the stick is in the machine that it runs on",
	"seed":              "it is made before there is an appliance",
	"first-boot":        "it is what the appliance begins with",
	"update confirm":    "it is what a version does itself that is on trial",
	"dashboard":         "it is the screen of the machine that it runs on, and asks that machine's agent",
	"fleet join":        "it makes a member of the machine that it runs on, and asks the one that invited it",
	"config check":      "settings are files of the appliance's",
	"config dump":       "settings are files of the appliance's",
	"config schema":     "it is this program's",
	"config migrations": "it shows what files here ask for; submitBatch with validateOnly tells what of it an appliance would do",
	"version":           "it is this program's",

	"vsphere assess":     "it is for planning before there is an appliance",
	"vsphere thumbprint": "who compares it does so before it stands in an appliance's settings",
	"vsphere role":       "it is this program's",
	"vsphere watch":      "an appliance lists a server's VMs, and watches none",
	"vsphere sweep":      "it is for migrations whose folders are lost here; an appliance's outlive it",
	"vsphere restore":    "it is for a folder here; cancelMigration does it there",
}

// TestEveryCommandIsReachedThroughTheAPI fails for a command that is new, until it says
// how an appliance is asked for it, or why that cannot be.
func TestEveryCommandIsReachedThroughTheAPI(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData(api.Description)
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, item := range doc.Paths.Map() {
		for _, op := range item.Operations() {
			there[op.OperationID] = true
		}
	}
	commands := map[string]bool{}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		name := strings.TrimPrefix(c.CommandPath(), "hyper2kvm ")
		if !c.HasSubCommands() {
			commands[name] = true
			reached(t, name, there)
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRoot(io.Discard, io.Discard))
	for name := range reach {
		if !commands[name] {
			t.Errorf("there is no command %q", name)
		}
	}
	for name := range unreached {
		if !commands[name] {
			t.Errorf("there is no command %q", name)
		}
	}
}

// reached holds a command to what is said of it, with --appliance.
func reached(t *testing.T, name string, there map[string]bool) {
	t.Helper()
	operations, ok := reach[name]
	first, _, _ := strings.Cut(name, " ")
	refused := onlyHere[first]+onlyHere[name] != ""
	switch {
	case ok == (unreached[name] != ""):
		t.Errorf("%s needs an operation of the API, or a reason why it has none", name)
	case ok && refused:
		t.Errorf("%s is refused with --appliance", name)
	case !ok && !refused && name != "fleet join": // which refuses it itself
		t.Errorf("%s takes --appliance, and does nothing with it: put it into onlyHere", name)
	}
	for _, id := range strings.Fields(operations) {
		if !there[id] {
			t.Errorf("%s needs %s, and the API has no such operation", name, id)
		}
	}
}
