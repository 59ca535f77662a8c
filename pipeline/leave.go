package pipeline

import (
	"context"
	"errors"
	"os"
	"path/filepath"
)

// leave lets go of everything, and last of the source, which is left as the run's end
// wants it: a failure, an interruption, or none.
func (r *Run) leave(ctx context.Context, failed, interrupted error) error {
	if carried := r.origin.Carried(); carried != nil {
		r.Carried = carried
	}
	closed := r.closeGuest()
	if failed != nil && interrupted != nil && errors.Unwrap(closed) == interrupted {
		closed = nil // it ended for the reason for which the stage did
	}
	released := errors.Join(closed, r.release(ctx))
	end := End{Finished: failed == nil && released == nil && r.Finished(), Converted: r.Stage("convert").State == Done, Proved: r.Outcome != nil && r.Outcome.Proved, Interrupted: interrupted != nil, Err: errors.Join(failed, released)}
	r.Leaving = true
	if err := r.save(r.Folder); err != nil {
		return errors.Join(released, err)
	}
	changes, err := r.origin.Release(ctx, end)
	r.Leaving = err != nil
	if changes && !end.Finished {
		r.Returned = true
		err = errors.Join(err, r.unplug())
	}
	return errors.Join(released, err, r.save(r.Folder))
}

// finish clears the work files of a migration that came to its end.
func (r *Run) finish(ctx context.Context) error {
	if err := r.release(ctx); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(r.Folder, workFolder))
}

// release lets go of everything that the run holds, in the order in which one
// stands on the other.
func (r *Run) release(ctx context.Context) error {
	if r.probed != nil {
		_ = r.probed() // INSPECT has told of it, or does not need it
		r.probed = nil
	}
	r.beside.Wait()
	failed := []error{r.closeGuest()}
	if r.storage != nil {
		failed = append(failed, r.storage.Close(ctx))
		r.storage = nil
	}
	failed = append(failed, closeAll(r.sources))
	r.sources = nil
	return errors.Join(failed...)
}

// Close lets other processes work on the migration, and forgets the keys.
func (r *Run) Close() error {
	r.keys.Wipe()
	return r.lock.Close()
}
