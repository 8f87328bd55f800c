package e2e_test

import (
	"testing"

	"github.com/lodgehq/lodge/e2e/scenario"
)

func TestCheckpointUpdates(t *testing.T)         { on(t, scenario.CheckpointUpdates) }
func TestNewEntriesFound(t *testing.T)           { on(t, scenario.NewEntriesFound) }
func TestRollbackRejected(t *testing.T)          { on(t, scenario.RollbackRejected) }
func TestForkDetected(t *testing.T)              { on(t, scenario.ForkDetected) }
func TestTwoViewsDetected(t *testing.T)          { on(t, scenario.TwoViewsDetected) }
func TestDivergenceSurvivesRestart(t *testing.T) { on(t, scenario.DivergenceSurvivesRestart) }
func TestHeldUntilResumed(t *testing.T)          { on(t, scenario.HeldUntilResumed) }
func TestLostReplyFoundByFollower(t *testing.T)  { on(t, scenario.LostReplyFoundByFollower) }
func TestNoEntrySkipped(t *testing.T)            { on(t, scenario.NoEntrySkipped) }
func TestAlteredEntryCaught(t *testing.T)        { on(t, scenario.AlteredEntryCaught) }
