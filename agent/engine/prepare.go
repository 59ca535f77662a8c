package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// buckets are what is kept by keys.
var buckets = []struct {
	config jetstream.KeyValueConfig
	place  func(*bus) *jetstream.KeyValue
}{
	{jetstream.KeyValueConfig{Bucket: "jobs", MaxValueSize: maxRecord}, func(b *bus) *jetstream.KeyValue { return &b.jobs }},
	{jetstream.KeyValueConfig{Bucket: "appliances"}, func(b *bus) *jetstream.KeyValue { return &b.nodes }},
	{jetstream.KeyValueConfig{Bucket: "states", MaxValueSize: maxRecord}, func(b *bus) *jetstream.KeyValue { return &b.states }},
}

// auditLog is the stream of what was done.
const auditLog = "AUDIT"

// logs are what is kept in order.
var logs = []struct {
	config jetstream.StreamConfig
	place  func(*bus) *jetstream.Stream
}{
	{jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"events.>"}, MaxAge: eventsKept, MaxBytes: maxEvents, Discard: jetstream.DiscardOld, Duplicates: dedupe, AllowDirect: true},
		func(b *bus) *jetstream.Stream { return &b.events }},
	// of which nothing can be taken away, by this program neither
	{jetstream.StreamConfig{Name: auditLog, Subjects: []string{"audit"}, MaxBytes: maxAudit, Discard: jetstream.DiscardOld, DenyDelete: true, DenyPurge: true},
		func(b *bus) *jetstream.Stream { return &b.audit }},
}

var files = jetstream.ObjectStoreConfig{Bucket: "kept", MaxBytes: maxKept}

// prepare finds what is kept, and makes what is not there yet where that is this
// appliance's to do. Requests that a cluster without a leader gets are lost, so each is
// short and sent again.
func (b *bus) prepare(ctx context.Context, s Shape, audit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("what keeps the migrations did not answer within %v: is more than half of the appliances there?", startLimit))
	defer cancel()
	switch {
	case s.URL != "" && !s.External:
		return b.find(ctx, func(error) bool { return true })
	case s.External:
		return b.adopt(ctx, audit)
	case s.Cluster.Name != "" && !s.Cluster.First:
		if err := b.await(ctx); err != nil {
			return err
		}
		return b.make(ctx, mostReplicas, audit)
	case s.Cluster.Name != "":
		return b.make(ctx, mostReplicas, audit)
	}
	return b.make(ctx, 1, audit)
}

// jobsStream is that of the migrations: where it is, all that was kept is.
const jobsStream = "KV_jobs"

// await waits until the appliance that was there first has carried over what it has kept.
func (b *bus) await(ctx context.Context) error {
	return insist(ctx, func(error) bool { return true }, func(ctx context.Context) error {
		_, err := b.js.Stream(ctx, jobsStream)
		return err
	})
}

// make makes all that is kept as it is wanted now, so many times. What was done is kept
// for as long as audit says.
func (b *bus) make(ctx context.Context, replicas int, audit time.Duration) error {
	for _, k := range buckets {
		k.config.Replicas = replicas
		if err := insist(ctx, passing, func(ctx context.Context) (err error) {
			*k.place(b), err = b.js.CreateOrUpdateKeyValue(ctx, k.config)
			return err
		}); err != nil {
			return err
		}
	}
	for _, l := range logs {
		l.config.Replicas = replicas
		if l.config.Name == auditLog {
			l.config.MaxAge = audit
		}
		if err := insist(ctx, passing, func(ctx context.Context) (err error) {
			*l.place(b), err = b.js.CreateOrUpdateStream(ctx, l.config)
			return err
		}); err != nil {
			return err
		}
	}
	files := files
	files.Replicas = replicas
	return insist(ctx, passing, func(ctx context.Context) (err error) {
		b.kept, err = b.js.CreateOrUpdateObjectStore(ctx, files)
		return err
	})
}

// find finds all that is kept. A hub that has just begun may not have made it yet.
func (b *bus) find(ctx context.Context, again func(error) bool) error {
	for _, k := range buckets {
		if err := insist(ctx, again, func(ctx context.Context) (err error) {
			*k.place(b), err = b.js.KeyValue(ctx, k.config.Bucket)
			return err
		}); err != nil {
			return b.unreached(err)
		}
	}
	for _, l := range logs {
		if err := insist(ctx, again, func(ctx context.Context) (err error) {
			*l.place(b), err = b.js.Stream(ctx, l.config.Name)
			return err
		}); err != nil {
			return b.unreached(err)
		}
	}
	return insist(ctx, again, func(ctx context.Context) (err error) {
		b.kept, err = b.js.ObjectStore(ctx, files.Bucket)
		return err
	})
}

// unreached adds why the engine elsewhere was not reached.
func (b *bus) unreached(err error) error { return errors.Join(b.why(), err) }

// clusterless is what a NATS answers that cannot keep anything more than once.
//
// Source: nats-server, server/errors.json, JSStreamReplicasNotSupportedErr.
const clusterless jetstream.ErrorCode = 10074

// adopt finds all that is kept by a NATS that is there already, as whoever runs it has
// set it up; what is not there is made, three times where that can be.
func (b *bus) adopt(ctx context.Context, audit time.Duration) error {
	missing := func(err error) bool {
		return !errors.Is(err, jetstream.ErrBucketNotFound) && !errors.Is(err, jetstream.ErrStreamNotFound) && passing(err)
	}
	err := b.find(ctx, missing)
	if !errors.Is(err, jetstream.ErrBucketNotFound) && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	err = b.make(ctx, mostReplicas, audit)
	if api, ok := errors.AsType[*jetstream.APIError](err); ok && api.ErrorCode == clusterless {
		return b.make(ctx, 1, audit)
	}
	return err
}
