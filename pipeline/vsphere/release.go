package vsphere

import (
	"context"
	"errors"
	"fmt"

	"hyper2kvm/pipeline"
	"hyper2kvm/vmware"
)

// Release implements pipeline.Origin: a proved migration's VM is marked, one that is to
// be gone on with stays off, and any other is as it was found.
func (o *Origin) Release(ctx context.Context, end pipeline.End) (changes bool, err error) {
	o.guard.stop()
	if o.ledger == nil && end.Finished { // by a process that was killed over its end
		if o.ledger, err = openLedger(o.Folder, o.ID); err != nil {
			return false, err
		}
	}
	if o.ledger == nil || len(o.ledger.open()) == 0 && !end.Proved {
		return errors.Is(end.Err, pipeline.ErrSourceChanged), o.close(ctx)
	}
	if o.refused != nil {
		return false, fmt.Errorf("%s stays as it is: give the same command again, or run hyper2kvm vsphere restore %s, when the server can be reached", o.ledger.kept.Name, o.Folder)
	}
	if err := o.connect(ctx); err != nil {
		return false, o.left(err)
	}
	defer func() { err = errors.Join(err, o.close(ctx)) }()
	switch {
	case o.Live:
		return !end.Finished, o.left(o.hand.Restore(ctx))
	case end.Finished && end.Converted:
		return false, o.unfinished(errors.Join(o.hand.Finish(ctx), o.mark(ctx, end)))
	case end.Interrupted:
		o.Log.Info("the source stays off until the migration is gone on with or given up", "vm", o.ledger.kept.Name)
		return false, o.left(o.hand.Finish(ctx))
	}
	return true, o.left(o.hand.Restore(ctx))
}

// mark marks a VM that nobody needs any more.
func (o *Origin) mark(ctx context.Context, end pipeline.End) error {
	if !end.Proved || o.Marks == (vmware.Marks{}) {
		return nil
	}
	return o.hand.Mark(ctx, o.ledger.kept.VM, o.Marks)
}

// unfinished says what to do about a source that is not as a migration's end wants it.
func (o *Origin) unfinished(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s was migrated, and is not left as it should be: %w; mend that, and give the same command again", o.ledger.kept.Name, err)
}

// left says what to do about what could not be taken back.
func (o *Origin) left(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s is not as it was found: %w; mend that, and run hyper2kvm vsphere restore %s", o.ledger.kept.Name, err, o.Folder)
}

func (o *Origin) close(ctx context.Context) error {
	o.guard.stop()
	if o.session == nil {
		return nil
	}
	err := o.session.Close(ctx)
	o.session = nil
	return err
}

// Restore takes back everything that the migration in a folder changed in vSphere and
// that was not taken back. Its VM runs again if it ran.
func Restore(ctx context.Context, c Config) (names []string, err error) {
	o, err := New(c)
	if err != nil {
		return nil, err
	}
	if err := o.connect(ctx); err != nil {
		return nil, err
	}
	for _, t := range o.ledger.open() {
		names = append(names, fmt.Sprintf("%s of %s", t.Kind, t.Name))
	}
	return names, errors.Join(o.hand.Restore(ctx), o.close(ctx))
}
