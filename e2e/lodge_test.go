package e2e_test

import (
	"os"
	"testing"

	"github.com/lodgehq/lodge/e2e/scenario"
	"github.com/lodgehq/lodge/e2e/servers"
)

func TestMain(m *testing.M) { os.Exit(servers.Main(m)) }

// site is a Rekor v2 log that forgets duplicates, as it does by its default.
func site(t *testing.T) *scenario.Site {
	t.Helper()
	return scenario.NewSite(t, servers.StartRekorV2(t, servers.RekorV2Config{Forgetful: true}))
}

func TestSubmitCreatesEntry(t *testing.T)        { scenario.SubmitCreatesEntry(t, site(t)) }
func TestResubmitReturnsExisting(t *testing.T)   { scenario.ResubmitReturnsExisting(t, site(t)) }
func TestFreshStoreAdopts(t *testing.T)          { scenario.FreshStoreAdopts(t, site(t)) }
func TestTransient503NoDuplicate(t *testing.T)   { scenario.Transient503NoDuplicate(t, site(t)) }
func TestBatch1000(t *testing.T)                 { scenario.Batch(t, site(t), 1000) }
func TestInterrupt(t *testing.T)                 { scenario.Interrupt(t, site) }
func TestArtifactPushed(t *testing.T)            { scenario.ArtifactPushed(t, site(t)) }
func TestRepushNoDuplicate(t *testing.T)         { scenario.RepushNoDuplicate(t, site(t)) }
func TestArtifactSurvivesFaults(t *testing.T)    { scenario.ArtifactSurvivesFaults(t, site(t)) }
func TestReceiptCacheAvoidsNetwork(t *testing.T) { scenario.ReceiptCacheAvoidsNetwork(t, site(t)) }
func TestBadLog(t *testing.T)                    { scenario.BadLog(t, site) }
func TestBadRegistry(t *testing.T)               { scenario.BadRegistry(t, site(t)) }

func TestKeyIsDeterministic(t *testing.T) {
	vectors, err := os.ReadFile("../dsse/testdata/keys.json")
	if err != nil {
		t.Fatal(err)
	}
	scenario.KeyIsDeterministic(t, site(t), vectors)
}
