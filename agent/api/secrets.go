package api

import (
	"context"
	"io"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/seal"
)

// ListSecrets implements listSecrets.
func (s *server) ListSecrets(ctx context.Context, _ ListSecretsRequestObject) (ListSecretsResponseObject, error) {
	names, err := s.Secrets.Names(ctx)
	list := []model.Secret{}
	for _, name := range names {
		list = append(list, model.Secret{Name: name})
	}
	return ListSecrets200JSONResponse{Items: list}, err
}

// PutSecret implements putSecret.
func (s *server) PutSecret(ctx context.Context, r PutSecretRequestObject) (PutSecretResponseObject, error) {
	secret, err := sent(r)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe()
	return PutSecret204Response{}, s.Secrets.Put(ctx, r.Secret, secret)
}

// sent is the secret of a request, of which no more is read than can be kept, and a byte.
func sent(r PutSecretRequestObject) (seal.Secret, error) {
	if r.JSONBody != nil {
		return seal.Secret(r.JSONBody.Value), nil
	}
	return io.ReadAll(io.LimitReader(r.Body, seal.MostSecret+1))
}

// DeleteSecret implements deleteSecret.
func (s *server) DeleteSecret(ctx context.Context, r DeleteSecretRequestObject) (DeleteSecretResponseObject, error) {
	return DeleteSecret204Response{}, s.Secrets.Delete(ctx, r.Secret)
}
