package interop_test

import (
	"testing"

	"github.com/lodgehq/lodge/e2e/scenario"
)

func TestCheckpointUpdates(t *testing.T)         { scenario.CheckpointUpdates(t, site(t)) }
func TestNewEntriesFound(t *testing.T)           { scenario.NewEntriesFound(t, site(t)) }
func TestRollbackRejected(t *testing.T)          { scenario.RollbackRejected(t, site(t)) }
func TestForkDetected(t *testing.T)              { scenario.ForkDetected(t, site(t)) }
func TestTwoViewsDetected(t *testing.T)          { scenario.TwoViewsDetected(t, site(t)) }
func TestDivergenceSurvivesRestart(t *testing.T) { scenario.DivergenceSurvivesRestart(t, site(t)) }
func TestHeldUntilResumed(t *testing.T)          { scenario.HeldUntilResumed(t, site(t)) }
func TestLostReplyFoundByFollower(t *testing.T)  { scenario.LostReplyFoundByFollower(t, site(t)) }
