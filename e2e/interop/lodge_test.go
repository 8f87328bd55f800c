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

func TestCosignVerifies(t *testing.T) {
	t.Run("v1", func(t *testing.T) { scenario.CosignVerifies(t, site(t)) })
	t.Run("v2", func(t *testing.T) {
		scenario.CosignVerifies(t, scenario.NewSite(t, servers.StartRekorV2(t, servers.RekorV2Config{})))
	})
}
