package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/lodgehq/lodge"
)

// phase is what was under way when an error came: only a manifest that was on its way can
// leave doubt about whether the artifact is there.
type phase int

const (
	reading   phase = iota // nothing is sent
	uploading              // blobs, which are no artifact by themselves
	writing                // a manifest, a tag or an index
)

// Codes of errors that others branch on.
const (
	codeSubjectMissing = "subject-missing"
	codeUnauthorized   = "unauthorized"
	codeIndexFull      = "index-full"
	codeIndexInvalid   = "index-invalid"
)

// errCredentials marks credentials that could not be read.
var errCredentials = errors.New("no usable credentials")

// classify returns err as a *lodge.Error (the table of answers of docs/architecture.md), and
// nil for nil.
func (r *Repository) classify(p phase, err error) error {
	var (
		done   *lodge.Error
		busy   *busyError
		answer *errcode.ErrorResponse
		unsent *unsentError
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &done):
		return err
	case errors.As(err, &busy):
		return r.classifyBusy(p, busy)
	case errors.As(err, &answer):
		return r.classifyAnswer(p, answer)
	case errors.Is(err, errCredentials), errors.Is(err, auth.ErrBasicCredentialNotFound):
		return lodge.Errorf(lodge.ClassHeld, codeUnauthorized,
			"%s: %w: run `docker login %s` as somebody who may pull and push there", r, err, r.remote.Reference.Registry)
	case isMissing(err):
		return lodge.Errorf(lodge.ClassRetry, "missing", "%s: %w", r, err)
	case errors.As(err, &unsent):
		return lodge.Errorf(lodge.ClassRetry, "unreachable", "%s: %w", r, err)
	}
	return lodge.Errorf(p.doubt(), "network", "%s: %w", r, err)
}

// doubt is the class of an answer that proves nothing.
func (p phase) doubt() lodge.Class {
	if p == writing {
		return lodge.ClassUnknown
	}
	return lodge.ClassRetry
}

func (r *Repository) classifyBusy(p phase, b *busyError) error {
	class, code := p.doubt(), fmt.Sprint(b.status)
	if b.status == http.StatusTooManyRequests || b.status == http.StatusTooEarly {
		class, code = lodge.ClassRetry, "busy"
	}
	e := lodge.Errorf(class, code, "%s: %w", r, b)
	e.RetryAfter = b.retryAfter
	return e
}

// transient are codes of the distribution specification that say that a blob is missing or
// its upload went wrong: the next attempt checks the blobs again first.
var transient = []string{
	errcode.ErrorCodeBlobUnknown, errcode.ErrorCodeBlobUploadInvalid, errcode.ErrorCodeBlobUploadUnknown,
	errcode.ErrorCodeDigestInvalid, errcode.ErrorCodeManifestBlobUnknown, errcode.ErrorCodeSizeInvalid,
}

func (r *Repository) classifyAnswer(p phase, a *errcode.ErrorResponse) error {
	said := fmt.Sprintf("%s said %d %s", r, a.StatusCode, answerWords(a))
	isTransient := slices.ContainsFunc(a.Errors, func(e errcode.Error) bool { return slices.Contains(transient, e.Code) })
	switch {
	case a.StatusCode == http.StatusUnauthorized, a.StatusCode == http.StatusForbidden:
		return lodge.Errorf(lodge.ClassHeld, codeUnauthorized,
			"no rights in %s (%d %s): run `docker login %s` as somebody who may pull and push there",
			r, a.StatusCode, answerWords(a), r.remote.Reference.Registry)
	case isTransient:
		return lodge.Errorf(lodge.ClassRetry, "blob-missing", "%s: %w", said, a)
	case a.StatusCode == http.StatusNotFound && p != reading:
		// A dead upload session, a manifest of the index that is not there yet, a repository
		// that was removed: the next attempt resolves the subject and checks the blobs again.
		return lodge.Errorf(lodge.ClassRetry, "missing", "%s", said)
	case a.StatusCode == http.StatusNotFound:
		return lodge.Errorf(lodge.ClassPermanent, codeSubjectMissing, "%s: is the repository there?", said)
	case a.StatusCode == http.StatusRequestEntityTooLarge:
		return lodge.Errorf(lodge.ClassPermanent, "too-large", "%s", said)
	case a.StatusCode == http.StatusMethodNotAllowed, a.StatusCode == http.StatusUnsupportedMediaType:
		return lodge.Errorf(lodge.ClassHeld, "refused", "%s: is it read-only, or no registry?", said)
	case a.StatusCode >= 400:
		return lodge.Errorf(lodge.ClassPermanent, fmt.Sprint(a.StatusCode), "%s", said)
	}
	// A success or redirect of a kind that the specification does not know here.
	return lodge.Errorf(p.doubt(), fmt.Sprint(a.StatusCode), "%s", said)
}

func answerWords(a *errcode.ErrorResponse) string {
	if len(a.Errors) == 0 {
		return http.StatusText(a.StatusCode)
	}
	return lodge.OneLine(a.Errors.Error())
}

// isMissing tells "it is not there" from everything that went wrong.
func isMissing(err error) bool {
	var answer *errcode.ErrorResponse
	if errors.As(err, &answer) {
		return answer.StatusCode == http.StatusNotFound
	}
	var done *lodge.Error
	if errors.As(err, &done) && done.Code == codeSubjectMissing {
		return true
	}
	return errors.Is(err, errdef.ErrNotFound)
}

// isNoReferrersAPI tells whether an answer means that the registry lists no referrers. The
// specification says 404; some answer that they don't know the method or path.
func isNoReferrersAPI(err error) bool {
	var (
		answer *errcode.ErrorResponse
		busy   *busyError
	)
	switch {
	case errors.As(err, &answer):
		return answer.StatusCode == http.StatusMethodNotAllowed || answer.StatusCode == http.StatusNotAcceptable
	case errors.As(err, &busy):
		return busy.status == http.StatusNotImplemented
	}
	return errors.Is(err, errdef.ErrUnsupported)
}

// words returns what an error body says, on one line.
func words(body []byte) string {
	var known struct {
		Errors errcode.Errors `json:"errors"`
	}
	if json.Unmarshal(body, &known) == nil && len(known.Errors) > 0 {
		return lodge.OneLine(known.Errors.Error())
	}
	return lodge.OneLine(string(body))
}
