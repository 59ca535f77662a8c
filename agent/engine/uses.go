package engine

import (
	"slices"
	"strings"

	"hyper2kvm/agent/api/model"
)

// Uses are what a migration takes a share of, as limits name it, and what whoever runs it
// must reach.
func Uses(s model.Spec) []string {
	storages := []string{s.Source.Storage, s.Target.Storage}
	for _, name := range s.Target.Storages {
		storages = append(storages, name)
	}
	for _, p := range s.AllowFolders {
		storages = append(storages, p.Storage)
	}
	uses := offers(storages, []string{s.Source.Vsphere.Server}, slices.Concat(disks(sourceDisk, s.Source.Disk, s.Source.Disks), disks(targetDisk, s.Target.Disk, s.Target.Disks)))
	slices.Sort(uses)
	return slices.Compact(uses)
}

// Kinds of what a migration uses, before their names.
const (
	storageUse = "storage:"
	serverUse  = "vsphere:"
	diskUse    = "disk:" // of one migration at a time
)

// What an attached disk is for, before its ID.
const (
	sourceDisk = "source:"
	targetDisk = "target:"
)

func disks(kind, one string, several []string) (list []string) {
	for _, id := range append([]string{one}, several...) {
		if id != "" {
			list = append(list, kind+id)
		}
	}
	return list
}

// offers are storages, vSphere servers and disks by which Uses are met.
func offers(storages, servers, disks []string) (list []string) {
	for _, name := range disks {
		list = append(list, diskUse+name)
	}
	for _, name := range storages {
		if name != "" { // what makes nothing may have no target
			list = append(list, storageUse+name)
		}
	}
	for _, name := range servers {
		if name != "" {
			list = append(list, serverUse+name)
		}
	}
	return list
}

// unreached says what of some uses nobody reaches.
func unreached(uses []string) string {
	var storages, servers, disks []string
	for _, use := range uses {
		if name, ok := strings.CutPrefix(use, diskUse); ok {
			kind, id, _ := strings.Cut(name, ":")
			disks = append(disks, id+" (as "+kind+")")
			continue
		}
		if name, ok := strings.CutPrefix(use, serverUse); ok {
			servers = append(servers, name)
			continue
		}
		storages = append(storages, strings.TrimPrefix(use, storageUse))
	}
	text := "no appliance that is there reaches its storages: " + strings.Join(storages, ", ")
	if len(servers) > 0 {
		text += "; and has in its settings the vSphere server " + strings.Join(servers, ", ")
	}
	if len(disks) > 0 {
		text += "; and has the attached disk that was chosen: " + strings.Join(disks, ", ")
	}
	return text
}
