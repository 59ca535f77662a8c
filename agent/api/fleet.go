package api

import (
	"context"
	"slices"

	"hyper2kvm/agent/api/model"
)

// ListStorages implements listStorages.
func (s *server) ListStorages(context.Context, ListStoragesRequestObject) (ListStoragesResponseObject, error) {
	appliances := s.Engine.Appliances()
	list := []model.Storage{}
	for _, name := range s.Engine.Storages() {
		v := model.Storage{Name: name, Use: model.StorageUseBoth, Appliances: []string{}}
		for _, a := range appliances {
			if slices.Contains(a.Storages, name) {
				v.Appliances = append(v.Appliances, a.Name)
			}
		}
		for _, ours := range s.Storages.Now() {
			if ours.Name != name {
				continue
			}
			size, free, err := ours.Room()
			if err != nil {
				s.Log.Warn("how much room a storage has is not known", "err", err)
			}
			v.Use, v.Size, v.Free = ours.Use, size, free
		}
		list = append(list, v)
	}
	return ListStorages200JSONResponse{Items: list}, nil
}

// ListAppliances implements listAppliances.
func (s *server) ListAppliances(context.Context, ListAppliancesRequestObject) (ListAppliancesResponseObject, error) {
	return ListAppliances200JSONResponse{Items: s.Engine.Appliances()}, nil
}

// ReadHost implements readHost.
func (s *server) ReadHost(ctx context.Context, _ ReadHostRequestObject) (ReadHostResponseObject, error) {
	h, err := s.Host(ctx)
	return ReadHost200JSONResponse(h), err
}
