package deliver_test

import (
	"context"
	"testing"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/deliver"
)

// TestClassifyFollows holds what follows from each class of failure in each state: the next state, when the next attempt may begin, and what the target's other
// deliveries learn from it.
func TestClassifyFollows(t *testing.T) {
	of := func(class lodge.Class) error { return lodge.Errorf(class, "code", "words") }
	for _, x := range []struct {
		state    lodge.State
		err      error
		stopping bool
		want     string
	}{
		{lodge.Sending, of(lodge.ClassRetry), false, "queued later refused"},
		{lodge.Sending, of(lodge.ClassReroute), false, "queued at once nobody"},
		{lodge.Sending, of(lodge.ClassUnknown), false, "unknown settled doubted"},
		{lodge.Sending, of(lodge.ClassHeld), false, "unknown settled held"},
		{lodge.Sending, of(lodge.ClassPermanent), false, "failed at once nobody"},
		{lodge.Sending, of(lodge.ClassCertificate), false, "failed at once nobody"},
		{lodge.Sending, context.Canceled, true, "unknown settled nobody"},
		{lodge.Sending, of(lodge.ClassRetry), true, "queued at once nobody"},
		{lodge.Sending, of(lodge.ClassPermanent), true, "failed at once nobody"},
		{lodge.Sending, deliver.Aside(of(lodge.ClassRetry)), false, "queued later nobody"},

		{lodge.Queued, of(lodge.ClassRetry), false, "queued later refused"},
		{lodge.Queued, of(lodge.ClassUnknown), false, "queued later doubted"},
		{lodge.Queued, of(lodge.ClassHeld), false, "queued later held"},
		{lodge.Queued, of(lodge.ClassPermanent), false, "failed at once nobody"},
		{lodge.Queued, context.Canceled, true, "queued at once nobody"},
		{lodge.Queued, deliver.Aside(of(lodge.ClassUnknown)), false, "queued later nobody"},

		{lodge.Unknown, of(lodge.ClassRetry), false, "unknown later refused"},
		{lodge.Unknown, of(lodge.ClassUnknown), false, "unknown later doubted"},
		{lodge.Unknown, of(lodge.ClassPermanent), false, "unknown later nobody"},
		{lodge.Unknown, of(lodge.ClassHeld), false, "unknown later held"},
		{lodge.Unknown, context.Canceled, true, "unknown at once nobody"},

		{lodge.Placed, of(lodge.ClassPermanent), false, "placed later nobody"},
		{lodge.Placed, of(lodge.ClassUnknown), false, "placed later doubted"},
	} {
		if got := deliver.Follows(x.state, x.err, x.stopping); got != x.want {
			t.Errorf("%s, %v, stopping %v: %s, want %s", x.state, lodge.Classify(x.err).Class, x.stopping, got, x.want)
		}
	}
}
