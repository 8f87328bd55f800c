package e2e_test

import (
	"flag"
	"os"
	"testing"

	"github.com/lodgehq/lodge/e2e/scenario"
	"github.com/lodgehq/lodge/e2e/servers"
)

// atATime is how many tests run at a time, unless go test is told otherwise: they wait for
// servers, and hardly compute.
const atATime = "8"

func TestMain(m *testing.M) {
	flag.Parse()
	told := false
	flag.Visit(func(f *flag.Flag) { told = told || f.Name == "test.parallel" })
	if !told {
		if err := flag.Set("test.parallel", atATime); err != nil {
			panic(err)
		}
	}
	os.Exit(servers.Main(m))
}

// site is a Rekor v2 log that forgets duplicates, as it does by its default.
func site(t *testing.T) *scenario.Site {
	t.Helper()
	return scenario.NewSite(t, servers.StartRekorV2(t, servers.RekorV2Config{Forgetful: true}))
}

// on plays a scenario on a site of its own, beside other tests: most of the time is the log's,
// which answers once a second.
func on(t *testing.T, scenario func(*testing.T, *scenario.Site)) {
	t.Helper()
	t.Parallel()
	scenario(t, site(t))
}

func TestSubmitCreatesEntry(t *testing.T)      { on(t, scenario.SubmitCreatesEntry) }
func TestResubmitReturnsExisting(t *testing.T) { on(t, scenario.ResubmitReturnsExisting) }
func TestFreshStoreAdopts(t *testing.T)        { on(t, scenario.FreshStoreAdopts) }
func TestTransient503NoDuplicate(t *testing.T) { on(t, scenario.Transient503NoDuplicate) }
func TestBatch1000(t *testing.T) {
	on(t, func(t *testing.T, s *scenario.Site) { scenario.Batch(t, s, 1000) })
}
func TestInterrupt(t *testing.T)                 { t.Parallel(); scenario.Interrupt(t, site) }
func TestArtifactPushed(t *testing.T)            { on(t, scenario.ArtifactPushed) }
func TestRepushNoDuplicate(t *testing.T)         { on(t, scenario.RepushNoDuplicate) }
func TestArtifactSurvivesFaults(t *testing.T)    { on(t, scenario.ArtifactSurvivesFaults) }
func TestReceiptCacheAvoidsNetwork(t *testing.T) { on(t, scenario.ReceiptCacheAvoidsNetwork) }
func TestBadLog(t *testing.T)                    { t.Parallel(); scenario.BadLog(t, site) }
func TestBadRegistry(t *testing.T)               { on(t, scenario.BadRegistry) }

func TestOutageOutlivesCertificate(t *testing.T) { on(t, scenario.OutageOutlivesCertificate) }

func TestEvidenceOffline(t *testing.T) {
	on(t, func(t *testing.T, s *scenario.Site) { scenario.EvidenceOffline(t, s, "../docs/evidence.md") })
}

func TestKeyIsDeterministic(t *testing.T) {
	t.Parallel()
	vectors, err := os.ReadFile("../dsse/testdata/keys.json")
	if err != nil {
		t.Fatal(err)
	}
	scenario.KeyIsDeterministic(t, site(t), vectors)
}

func TestEntryLoggedEvent(t *testing.T)            { on(t, scenario.EntryLoggedEvent) }
func TestEntryQueuedBeforeSubmission(t *testing.T) { on(t, scenario.EntryQueuedBeforeSubmission) }
func TestInclusionVerifiedEvent(t *testing.T)      { on(t, scenario.InclusionVerifiedEvent) }
func TestEntryFailedEvent(t *testing.T)            { on(t, scenario.EntryFailedEvent) }
func TestHintsFromAttestation(t *testing.T)        { on(t, scenario.HintsFromAttestation) }
func TestEventHistory(t *testing.T)                { on(t, scenario.EventHistory) }
func TestSameFactSameID(t *testing.T)              { on(t, scenario.SameFactSameID) }
func TestScopeNarrowsTrigger(t *testing.T)         { on(t, scenario.ScopeNarrowsTrigger) }
func TestVEXTransition(t *testing.T)               { on(t, scenario.VEXTransition) }
