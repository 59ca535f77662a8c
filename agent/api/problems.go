package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strconv"
	"syscall"

	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/labstack/echo/v4"
	"github.com/nats-io/nats.go"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/auth"
	"hyper2kvm/agent/backup"
	"hyper2kvm/agent/batch"
	"hyper2kvm/agent/disks"
	"hyper2kvm/agent/downloads"
	"hyper2kvm/agent/engine"
	"hyper2kvm/agent/firstboot"
	"hyper2kvm/agent/fleet"
	"hyper2kvm/agent/library"
	"hyper2kvm/agent/seal"
	"hyper2kvm/agent/storage"
	"hyper2kvm/agent/update"
	"hyper2kvm/agent/upload"
	"hyper2kvm/agent/webfile"
)

// known are the errors that callers can do something about.
var known = []struct {
	err    error
	status int
	code   string
	try    string
}{
	{engine.ErrUnknown, http.StatusNotFound, "no-such-migration", "list the migrations"},
	{errNoOperation, http.StatusNotFound, "no-such-operation", "read the migration, which lists its operations"},
	{engine.ErrNoBatch, http.StatusNotFound, "no-such-batch", "list the batches"},
	{engine.ErrBatchExists, http.StatusConflict, "batch-exists", "choose another name, or forget that one"},
	{batch.ErrBatch, http.StatusUnprocessableEntity, "bad-batch", ""},
	{fs.ErrNotExist, http.StatusNotFound, "not-there", ""},
	{engine.ErrExists, http.StatusConflict, "id-taken", "choose another ID, or let one be made up"},
	{engine.ErrReused, http.StatusUnprocessableEntity, "key-reused", "send another Idempotency-Key"},
	{engine.ErrChanged, http.StatusPreconditionFailed, "changed", "read it again, and decide anew"},
	{engine.ErrNotNow, http.StatusConflict, "not-now", ""},
	{engine.ErrElsewhere, http.StatusConflict, "elsewhere", "back up the hub, or with an existing NATS what that keeps, by its own means"},
	{engine.ErrVersion, http.StatusConflict, "other-version", "update this appliance; it leaves the record as it is"},
	{engine.ErrTooLarge, http.StatusRequestEntityTooLarge, "too-large", ""},
	{errSpec, http.StatusUnprocessableEntity, "bad-spec", ""},
	{backup.ErrBusy, http.StatusConflict, "not-now", "wait until that has ended"},
	{backup.ErrPassphrase, http.StatusUnprocessableEntity, "bad-input", ""},
	{backup.ErrKeys, http.StatusConflict, "no-keys", "back up without a passphrase, and the private files by other means"},
	{syscall.ENOSPC, http.StatusInsufficientStorage, "full", "make room where the appliance keeps its state"},
	{storage.ErrCrowded, http.StatusUnprocessableEntity, "too-many-files", "name the file that you look for, or keep files in several folders"},
	{library.ErrName, http.StatusNotFound, "not-there", "the libraries are vddk and virtio-win"},
	{upload.ErrInput, http.StatusBadRequest, "bad-request", "compare it with the description at /openapi.yaml"},
	{upload.ErrOffset, http.StatusConflict, "wrong-offset", "go on at Upload-Offset"},
	{upload.ErrOther, http.StatusConflict, "other-upload", "give the other upload up, or choose another name"},
	{upload.ErrForeign, http.StatusConflict, "exists", ""},
	{upload.ErrNow, http.StatusConflict, "not-now", "wait until that has ended, or choose another name"},
	{upload.ErrExists, http.StatusConflict, "exists", "choose another name, or replace it with If-Match"},
	{upload.ErrMatch, http.StatusPreconditionFailed, "changed", "read it again, and decide anew"},
	{upload.ErrDigest, http.StatusUnprocessableEntity, "wrong-digest", ""},
	{upload.ErrRefused, http.StatusUnprocessableEntity, "bad-file", ""},
	{upload.ErrRoom, http.StatusInsufficientStorage, "full", "make room in the storage, or choose another one"},
	{upload.ErrMany, http.StatusServiceUnavailable, "busy", "try again when some of them have ended"},
	{upload.ErrUnfinished, http.StatusConflict, "too-many-uploads", "list the uploads, and finish some or give them up"},
	{upload.ErrShort, http.StatusBadRequest, "cut-short", "go on at Upload-Offset"},
	{firstboot.ErrSeed, http.StatusUnprocessableEntity, "bad-settings", ""},
	{downloads.ErrInput, http.StatusUnprocessableEntity, "bad-input", ""},
	{downloads.ErrBase, http.StatusUnprocessableEntity, "bad-base", ""},
	{downloads.ErrUnknown, http.StatusNotFound, "no-such-download", "list the downloads, or make another one"},
	{downloads.ErrGone, http.StatusGone, "over", ""},
	{downloads.ErrNotYet, http.StatusConflict, "not-now", "read it again until its state is ready"},
	{downloads.ErrMany, http.StatusConflict, "too-many-downloads", ""},
	{disks.ErrUnknown, http.StatusNotFound, "no-such-disk", "list the disks"},
	{disks.ErrInUse, http.StatusConflict, "disk-in-use", ""},
	{disks.ErrHolds, http.StatusConflict, "disk-not-empty", ""},
	{disks.ErrConfirm, http.StatusUnprocessableEntity, "not-confirmed", ""},
	{disks.ErrInput, http.StatusUnprocessableEntity, "bad-input", ""},
	{disks.ErrMount, http.StatusUnprocessableEntity, "cannot-mount", ""},
	{update.ErrArchive, http.StatusUnprocessableEntity, "bad-update", ""},
	{update.ErrVersion, http.StatusConflict, "not-later", ""},
	{update.ErrCannot, http.StatusConflict, "no-updates", ""},
	{webfile.ErrServer, http.StatusBadGateway, "no-file", ""},
	{update.ErrBusy, http.StatusConflict, "not-now", "wait until that has ended"},
	{storage.ErrPlace, http.StatusUnprocessableEntity, "bad-place", "list the storages"},
	{errBegun, http.StatusConflict, "begun", "ask an admin to add a user; whoever has lost all access restores a backup"},
	{fleet.ErrToken, http.StatusForbidden, "bad-token", ""},
	{fleet.ErrInput, http.StatusUnprocessableEntity, "bad-input", ""},
	{fleet.ErrWorker, http.StatusConflict, "not-here", ""},
	{fleet.ErrUnknown, http.StatusNotFound, "not-there", "list the appliances"},
	{fleet.ErrThere, http.StatusConflict, "appliance-works", ""},
	{errExternal, http.StatusConflict, "no-fleet", ""},
	{auth.ErrUnauthenticated, http.StatusUnauthorized, "unauthenticated", "log in, or send a token that is not revoked or over"},
	{auth.ErrForbidden, http.StatusForbidden, "forbidden", "ask somebody who has the role"},
	{auth.ErrWrong, http.StatusUnauthorized, "wrong-password", ""},
	{auth.ErrNoCode, http.StatusUnauthorized, "wrong-code", "take the code that the appliance's console shows now"},
	{auth.ErrInput, http.StatusUnprocessableEntity, "bad-input", ""},
	{seal.ErrInput, http.StatusUnprocessableEntity, "bad-input", ""},
	{auth.ErrLastAdmin, http.StatusConflict, "last-admin", ""},
	{auth.ErrNotFound, http.StatusNotFound, "not-there", ""},
	{auth.ErrExists, http.StatusConflict, "exists", ""},
	{auth.ErrChanged, http.StatusConflict, "changed", "read it again, and decide anew"},
	{auth.ErrBusy, http.StatusServiceUnavailable, "busy", ""},
}

// away are errors of an engine that does not answer.
var away = []error{nats.ErrNoResponders, nats.ErrTimeout, nats.ErrConnectionClosed, nats.ErrDisconnected, context.DeadlineExceeded}

// busyAfter is when to try again what could not be answered, in seconds.
const busyAfter = 2

// problem is what is told of an error.
func problem(err error) model.Problem {
	p := model.Problem{Type: "about:blank", Status: http.StatusInternalServerError, Code: "internal", Detail: "this is a fault of the appliance's", Try: "look into its log by the request's number, and report it"}
	for _, k := range known {
		if errors.Is(err, k.err) {
			p.Status, p.Code, p.Detail, p.Try = k.status, k.code, err.Error(), k.try
			break
		}
	}
	if p.Code == "internal" && slices.ContainsFunc(away, func(a error) bool { return errors.Is(err, a) }) {
		p.Status, p.Code, p.Detail, p.Try = http.StatusServiceUnavailable, "engine-away", err.Error(), "try again: what keeps the migrations does not answer"
	}
	var (
		failure *engine.Failure
		bad     *openapi3filter.RequestError
		many    *auth.TooManyError
		http    *echo.HTTPError
	)
	switch {
	case errors.As(err, &failure):
		p = failure.Problem
		p.Type = "about:blank"
	case errors.As(err, &bad):
		p.Status, p.Code, p.Detail, p.Try = 400, "bad-request", invalid(bad), "compare it with the description at /openapi.yaml"
	case errors.As(err, &many):
		p.Status, p.Code, p.Detail, p.Try = 429, "too-many", many.Error(), "try again after "+many.After.String()
	case p.Code == "internal" && errors.As(err, &http):
		p.Status, p.Code, p.Detail, p.Try = http.Code, codes[http.Code], fmt.Sprint(http.Message), ""
	}
	return titled(p)
}

// codes are the words for what is refused before anybody looks at it.
var codes = map[int]string{400: "bad-request", 404: "no-such-path", 405: "no-such-method", 413: "too-large", 415: "no-such-format", 411: "length-required", 416: "no-such-range", 403: "cross-origin", 500: "internal"}

func titled(p model.Problem) model.Problem {
	p.Title = http.StatusText(p.Status)
	return p
}

// invalid is what is wrong with a request, in one line.
func invalid(e *openapi3filter.RequestError) string {
	where := "the body"
	if e.Parameter != nil {
		where = "the parameter " + e.Parameter.Name
	}
	what := e.Reason
	if e.Err != nil {
		what = reason(e.Err)
	}
	return where + ": " + what
}

// failed answers with a problem.
func (s *server) failed(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	p := problem(err)
	p.Instance = c.Response().Header().Get(echo.HeaderXRequestID)
	if p.Status >= 500 {
		s.Log.Error("a request failed", "path", c.Request().URL.Path, "id", p.Instance, "err", err)
	}
	told(c, p.Status, err)
	c.Response().Header().Set(echo.HeaderContentType, "application/problem+json")
	c.Response().WriteHeader(p.Status)
	if err := json.NewEncoder(c.Response()).Encode(p); err != nil {
		s.Log.Debug("a problem could not be told", "err", err)
	}
}

// told are the headers that belong to a refusal.
func told(c echo.Context, status int, err error) {
	h := c.Response().Header()
	switch status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "Bearer")
	case http.StatusTooManyRequests:
		var many *auth.TooManyError
		if errors.As(err, &many) {
			h.Set("Retry-After", strconv.Itoa(int(many.After.Seconds())+1))
		}
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", strconv.Itoa(busyAfter))
	}
}
