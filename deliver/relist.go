package deliver

import (
	"context"
	"log/slog"
	"time"

	"github.com/lodgehq/lodge"
)

// relistPage is how many deliveries are looked at together.
const relistPage = 1000

// relist looks now and then whether what was published is still listed: on a registry
// without the Referrers API anybody's write can drop it, a cosign's for example.
func (l *lane) relist(ctx context.Context) error {
	tick := time.NewTicker(l.Relist)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if err := l.relistAll(ctx); err != nil && ctx.Err() == nil {
			slog.Warn("what is listed could not be looked at", "target", l.Name, "error", err)
		}
	}
}

func (l *lane) relistAll(ctx context.Context) error {
	for after := int64(0); ; {
		page, err := l.engine.config.Store.Published(ctx, l.Address, after, relistPage)
		if err != nil || len(page) == 0 {
			return err
		}
		bySubject := map[lodge.Digest][]lodge.Digest{}
		for _, d := range page {
			bySubject[d.Subject] = append(bySubject[d.Subject], d.Receipt.OCI.Digest)
			after = d.ID
		}
		for subject, manifests := range bySubject {
			lost, err := l.relistOne(ctx, subject, manifests)
			if len(lost) > 0 {
				slog.Warn("attestations that others had dropped are listed again", "target", l.Name, "subject", subject, "count", len(lost))
			}
			switch {
			case err == nil:
			case lodge.Classify(err).Class != lodge.ClassPermanent || ctx.Err() != nil:
				return err
			default: // one subject whose list can't be mended must not keep the others from it
				slog.Warn("what is listed for a subject could not be mended", "target", l.Name, "subject", subject, "error", err)
			}
		}
	}
}

// relistTime bounds the work on one subject: a registry that hangs must not end the loop.
const relistTime = 2 * time.Minute

func (l *lane) relistOne(ctx context.Context, subject lodge.Digest, manifests []lodge.Digest) ([]lodge.Digest, error) {
	ctx, cancel := context.WithTimeout(ctx, relistTime)
	defer cancel()
	return l.Repository.Relist(ctx, subject, manifests)
}
