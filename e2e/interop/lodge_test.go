package interop_test

import (
	"testing"

	"github.com/lodgehq/lodge/e2e/scenario"
	"github.com/lodgehq/lodge/e2e/servers"
)

// site is a Rekor v1 log.
func site(t *testing.T) *scenario.Site {
	t.Helper()
	return scenario.NewSite(t, servers.StartRekorV1(t, servers.RekorV1Config{}))
}

func TestSubmitCreatesEntry(t *testing.T)        { scenario.SubmitCreatesEntry(t, site(t)) }
func TestResubmitReturnsExisting(t *testing.T)   { scenario.ResubmitReturnsExisting(t, site(t)) }
func TestFreshStoreAdopts(t *testing.T)          { scenario.FreshStoreAdopts(t, site(t)) }
func TestTransient503NoDuplicate(t *testing.T)   { scenario.Transient503NoDuplicate(t, site(t)) }
func TestBatch1000(t *testing.T)                 { scenario.Batch(t, site(t), 1000) }
func TestInterrupt(t *testing.T)                 { scenario.Interrupt(t, site) }
func TestArtifactPushed(t *testing.T)            { scenario.ArtifactPushed(t, site(t)) }
func TestRepushNoDuplicate(t *testing.T)         { scenario.RepushNoDuplicate(t, site(t)) }
func TestReceiptCacheAvoidsNetwork(t *testing.T) { scenario.ReceiptCacheAvoidsNetwork(t, site(t)) }
func TestBadLog(t *testing.T)                    { scenario.BadLog(t, site) }

func TestVerifiesFaster(t *testing.T) {
	scenario.VerifiesFaster(t, scenario.NewSite(t, servers.StartRekorV2(t, servers.RekorV2Config{})))
}

func TestCosignVerifies(t *testing.T) {
	t.Run("v1", func(t *testing.T) { scenario.CosignVerifies(t, site(t)) })
	t.Run("v2", func(t *testing.T) {
		scenario.CosignVerifies(t, scenario.NewSite(t, servers.StartRekorV2(t, servers.RekorV2Config{})))
	})
}

func TestEntryLoggedEvent(t *testing.T)            { scenario.EntryLoggedEvent(t, site(t)) }
func TestEntryQueuedBeforeSubmission(t *testing.T) { scenario.EntryQueuedBeforeSubmission(t, site(t)) }
func TestInclusionVerifiedEvent(t *testing.T)      { scenario.InclusionVerifiedEvent(t, site(t)) }
func TestEntryFailedEvent(t *testing.T)            { scenario.EntryFailedEvent(t, site(t)) }
func TestHintsFromAttestation(t *testing.T)        { scenario.HintsFromAttestation(t, site(t)) }
func TestEventHistory(t *testing.T)                { scenario.EventHistory(t, site(t)) }
func TestSameFactSameID(t *testing.T)              { scenario.SameFactSameID(t, site(t)) }
func TestScopeNarrowsTrigger(t *testing.T)         { scenario.ScopeNarrowsTrigger(t, site(t)) }
func TestVEXTransition(t *testing.T)               { scenario.VEXTransition(t, site(t)) }
