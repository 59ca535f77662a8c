package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"hyper2kvm/agent/config"
	"hyper2kvm/agent/webhook"
)

// hook is a receiver that is told by HTTP.
type hook struct {
	config.Webhook
	secret Secret
}

func (h hook) send(ctx context.Context, m Message) error {
	target, err := Target(h.Webhook, h.secret)
	if err != nil {
		return err
	}
	body, err := json.Marshal(m)
	if err != nil {
		return &lastingError{err}
	}
	_, err = target.Post(ctx, m.ID, body)
	if refused, ok := errors.AsType[*webhook.Refused](err); ok && refused.Lasting() {
		return &lastingError{err}
	}
	return err
}

// Target is a webhook of the settings with its secrets.
func Target(w config.Webhook, secret Secret) (webhook.Target, error) {
	t := webhook.Target{URL: w.URL}
	if w.URLSecret != "" {
		address, err := secret(w.URLSecret)
		if err != nil {
			return t, fmt.Errorf("the address of the webhook %s: %w", w.Name, err)
		}
		t.URL = strings.TrimSpace(string(address))
	}
	if w.Secret != "" {
		key, err := secret(w.Secret)
		if err != nil {
			return t, fmt.Errorf("the key of the webhook %s: %w", w.Name, err)
		}
		t.Key = key
	}
	return t, nil
}

// afterOf is when a refusal says that it may be tried again.
func afterOf(err error) time.Duration {
	if refused, ok := errors.AsType[*webhook.Refused](err); ok {
		return refused.After
	}
	return 0
}
