package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/semaphore"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/node"
	"github.com/lodgehq/lodge/store"
)

// pushFlags are the flags of push.
type pushFlags struct {
	targetFlags
	key    string
	scopes []string
	dryRun bool
	wait   time.Duration
	output format
}

func newPush(a *app) *cobra.Command {
	var f pushFlags
	cmd := &cobra.Command{
		Use:   "push [ENVELOPE…]",
		Short: "Lodge envelopes exactly once in logs and registries",
		Long: `Lodge signed envelopes: DSSE JSON or Sigstore bundles (v0.1 to v0.3), one per file or one
per line. ENVELOPE is a file, a folder (its *.json, *.jsonl, *.sigstore* and *.intoto*, those
of its folders too), or - for standard input, which is also what no ENVELOPE means.

Each envelope needs a signature that verifies: under --key, under a signer of the
configuration, or under the certificate that its bundle carries. What is accepted is
written to the local store first and then delivered, many at a time. The same content is
never lodged twice: what is there already is found and its receipt printed, as "duplicate".

A log is only believed with --log-key or --trusted-root; the public Sigstore instance needs
neither. With --oci the bundle is attached to its subject and carries the log's proof.

push waits for delivery up to --wait, counted from when all input was accepted. What is not
delivered by then, or at Ctrl-C, stays safe in the store: the next push with the same
targets goes on with it. A bad file is named and does not stop the others.

With -o json there is one line per delivery, as each is done: source, key, signer, target,
state, duplicate, attempts, receipt, error.

Exit status: 2 wrong usage or unreadable input, 1 some failed, 3 accepted and not delivered
yet, 0 all delivered (new or existing); the first that applies.`,
		Example: `  lodge push vex.dsse.json --key key.pub --log https://rekor.example --log-key rekor.pub
  lodge push vex.dsse.json --key key.pub --log https://rekor.example --log-key rekor.pub \
      --oci registry.example/app
  lodge push attestations/ -o json --wait 10m      # targets from lodge.yaml
  generate | lodge push - --key key.pub --dry-run --log https://rekor.example --log-key rekor.pub`,
		RunE: func(cmd *cobra.Command, args []string) error {
			args, err := a.inputs(args)
			if err != nil {
				return err
			}
			return a.push(cmd.Context(), f, args)
		},
	}
	f.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.key, "key", "", "`PEM` file of the public key that verifies the envelopes")
	flags.StringArrayVar(&f.scopes, "scope", nil, "`SCOPE` of its events (component:openssl) instead of the derived ones; those of later pushes are added (without --scope: the derived ones); repeatable")
	flags.BoolVar(&f.dryRun, "dry-run", false, "say what would be sent where, were it not there already; nobody is asked, and nothing sent or stored")
	flags.DurationVar(&f.wait, "wait", time.Minute, "how long to wait for delivery; 0 accepts only")
	f.output.flag(cmd)
	return cmd
}

func (a *app) push(ctx context.Context, f pushFlags, args []string) error {
	if f.wait < 0 {
		return misused("--wait %s: want 0 or more", f.wait)
	}
	var err error
	if f.scopes, err = node.Scopes(f.scopes); err != nil {
		return misused("--scope: %v", err)
	}
	key, err := a.publicKey("--key", f.key)
	if err != nil {
		return err
	}
	c, err := a.config()
	if err != nil {
		return err
	}
	c.Events = node.Events{} // the daemon hands them out
	routes, err := f.apply(a, &c)
	if err != nil {
		return err
	}
	if f.dryRun {
		return a.dryRun(ctx, f, c, submissions(f, key, routes), args)
	}
	n, err := node.Open(ctx, c)
	if err != nil {
		return unreadable(err)
	}
	ctx, stop := interruptible(ctx)
	defer stop()
	b := &batch{
		node:   n,
		ways:   submissions(f, key, routes),
		memory: semaphore.NewWeighted(maxHeld),
		report: newReport(a, f, store.Name(c.Store)),
	}
	err = b.run(ctx, reader{stdin: a.stdin, note: b.report.note}, args, f.wait)
	return errors.Join(err, n.Close())
}

// interruptible returns a context that ends at the first signal. The second one ends the
// process at once, which loses nothing: what was accepted is durable.
func interruptible(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals
		os.Exit(exitPending)
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel()
	}
}

// submissions returns what is submitted of each envelope, but for the envelope itself.
func submissions(f pushFlags, key *dsse.PublicKey, routes []route) []node.Submission {
	var ways []node.Submission
	for _, r := range routes {
		ways = append(ways, node.Submission{Key: key, Scopes: f.scopes, Targets: r.targets, Subject: r.subject})
	}
	return ways
}

const (
	intakers = 64        // envelopes that are accepted at a time; their commits share a write to disk
	maxHeld  = 128 << 20 // bytes of input that is read and not accepted yet
)

// batch is the envelopes of one push on their way.
type batch struct {
	node    *node.Node
	ways    []node.Submission
	memory  *semaphore.Weighted
	report  *report
	waiters waiters
}

// run takes everything in, delivers at the same time, and returns when all is delivered or
// can't be for now, wait has passed since everything was accepted, or ctx ends.
func (b *batch) run(ctx context.Context, in reader, args []string, wait time.Duration) error {
	intake, broken := context.WithCancelCause(ctx)
	running, stopRunning := context.WithCancel(context.WithoutCancel(ctx))
	waiting, settle := context.WithCancel(context.WithoutCancel(ctx))
	defer broken(nil)
	defer stopRunning()
	defer settle()
	b.waiters.finish = func(p parcel) { b.finish(waiting, p) }

	var engine sync.WaitGroup
	if wait > 0 {
		engine.Go(func() {
			if err := b.node.Run(running); err != nil {
				broken(fmt.Errorf("delivering: %w", err))
			}
		})
	} else {
		settle()
	}
	endWatch := b.report.watch(b.node)
	defer context.AfterFunc(ctx, b.report.interrupted)()

	b.takeIn(intake, in, args)
	b.report.intakeDone(intake.Err() == nil)
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	select {
	case <-b.waiters.idle():
	case <-timeout.C:
	case <-intake.Done(): // interrupted, or delivering broke
	}
	stopRunning()
	engine.Wait()
	settle()
	<-b.waiters.idle()
	endWatch()
	if cause := context.Cause(intake); cause != nil && !errors.Is(cause, context.Canceled) {
		b.report.fault(cause)
	}
	return b.report.end()
}

// takeIn reads and accepts the input until its end or that of ctx.
func (b *batch) takeIn(ctx context.Context, in reader, args []string) {
	items := make(chan item)
	read := 0
	in.yield = func(i item) bool {
		read++
		i.number = read
		if b.memory.Acquire(ctx, weight(i)) != nil {
			return false
		}
		select {
		case items <- i:
			return true
		case <-ctx.Done():
			return false
		}
	}
	go func() { // nobody waits for it once ctx has ended: a read of a terminal has no end
		in.all(args)
		close(items)
	}()
	var intake sync.WaitGroup
	for range intakers {
		intake.Go(func() {
			for {
				select {
				case i, more := <-items:
					if !more {
						return
					}
					b.accept(ctx, i)
					b.memory.Release(weight(i))
				case <-ctx.Done():
					return
				}
			}
		})
	}
	intake.Wait()
}

func weight(i item) int64 { return min(int64(len(i.raw)), maxHeld) }

// accept accepts one envelope and has its deliveries waited for.
func (b *batch) accept(ctx context.Context, i item) {
	if i.err != nil {
		b.report.bad(i.source, i.err)
		return
	}
	var seen []int64
	for _, way := range b.ways {
		way.Envelope = i.raw
		accepted, err := b.node.Accept(ctx, way)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return // interrupted: said once, not for each
		case isInput(err):
			b.report.bad(i.source, err)
			return
		default:
			b.report.refused(i.source, err)
			return
		}
		for _, d := range accepted {
			if slices.Contains(seen, d.ID) {
				continue // a log that several ways lead to
			}
			seen = append(seen, d.ID)
			b.report.accepted(d.ID)
			b.waiters.add(parcel{item: i.number, place: len(seen), source: i.source, Accepted: d})
		}
	}
}

// isInput tells whether an envelope was not accepted because of what it is.
func isInput(err error) bool {
	return errors.Is(err, lodge.ErrMalformed) || errors.Is(err, lodge.ErrLimit) || errors.Is(err, lodge.ErrSignature)
}

// finish reports a delivery once there is nothing more to wait for.
func (b *batch) finish(ctx context.Context, p parcel) {
	d, err := b.node.Await(ctx, p.Delivery)
	if err == nil && d.State.Live() {
		d, err = b.stands(context.WithoutCancel(ctx), d.ID)
	}
	if err != nil {
		b.report.fault(fmt.Errorf("%s: how its delivery stands is not known: %w", p.source, err))
	} else {
		p.Delivery = d
	}
	b.report.finished(p)
}

// stands returns a delivery as it stands; one that waits for a held target says so.
func (b *batch) stands(ctx context.Context, id int64) (lodge.Delivery, error) {
	d, err := b.node.Delivery(ctx, id)
	if err != nil || !d.State.Live() {
		return d, err
	}
	held, err := b.node.Held(ctx, d.Target.Address)
	switch {
	case held != nil:
		d.Err = held
	case d.Err != nil && d.Err.Class == lodge.ClassHeld: // it was when it was tried last
		last := *d.Err
		last.Class = lodge.ClassRetry
		d.Err = &last
	}
	return d, err
}

// dryRun says what a push would do.
func (a *app) dryRun(ctx context.Context, f pushFlags, c node.Config, ways []node.Submission, args []string) (err error) {
	folder, err := os.MkdirTemp("", "lodge-dry-run-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	c.Store = "sqlite:" + filepath.Join(folder, "lodge.db")
	n, err := node.Open(ctx, c)
	if err != nil {
		return unreadable(err)
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	d := dry{app: a, node: n, ways: ways, output: f.output}
	reader{
		stdin: a.stdin,
		note:  func(text string) { complain(a.stderr, text) },
		yield: func(i item) bool { return d.plan(ctx, i) },
	}.all(args)
	return d.status()
}
