package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/node"
)

// eventHandler answers GET /v1/events: with a batch, or with a stream where the client
// accepts one.
type eventHandler struct {
	events Events
	room   chan struct{} // of streams
}

func (h *eventHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	after, err := number(query.Get("after"), 0, 0, math.MaxInt64)
	if err != nil {
		problem(w, http.StatusBadRequest, "parameter", "after="+err.Error())
		return
	}
	if strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		if after, err = number(r.Header.Get("Last-Event-ID"), after, 0, math.MaxInt64); err != nil {
			problem(w, http.StatusBadRequest, "parameter", "Last-Event-ID: "+err.Error())
			return
		}
		h.stream(w, r, after)
		return
	}
	limit, err := number(query.Get("limit"), defaultLimit, 1, maxLimit)
	if err != nil {
		problem(w, http.StatusBadRequest, "parameter", "limit="+err.Error())
		return
	}
	h.batch(w, r, after, int(limit))
}

var errEnough = errors.New("enough")

// batch answers with a JSON array of events (CloudEvents JSON format section 4).
func (h *eventHandler) batch(w http.ResponseWriter, r *http.Request, after int64, limit int) {
	var body bytes.Buffer
	n := 0
	_, err := h.events.Events(r.Context(), node.EventQuery{}, after, func(e lodge.Event) error {
		if n == limit {
			return errEnough
		}
		line, err := e.MarshalJSON()
		body.WriteByte("[,"[min(n, 1)])
		body.Write(line)
		n++
		return err
	})
	if err != nil && !errors.Is(err, errEnough) {
		slog.Error("events can't be read", "error", err)
		problem(w, http.StatusServiceUnavailable, "store", "the events can't be read now")
		return
	}
	if n == 0 {
		body.WriteByte('[')
	}
	body.WriteString("]\n")
	w.Header().Set("Content-Type", "application/cloudevents-batch+json")
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTime)) // a test's recorder has none
	_, _ = w.Write(body.Bytes())
}

// stream answers with server-sent events until the client goes or does not read.
func (h *eventHandler) stream(w http.ResponseWriter, r *http.Request, after int64) {
	select {
	case h.room <- struct{}{}:
		defer func() { <-h.room }()
	default:
		w.Header().Set("Retry-After", "30")
		problem(w, http.StatusServiceUnavailable, "streams", fmt.Sprintf("there are %d streams already", maxStreams))
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	ctx, stop := context.WithCancel(r.Context())
	defer stop()
	s := &stream{w: w, control: http.NewResponseController(w)}
	if s.write([]byte(": lodge\n\n")) != nil {
		return
	}
	var beats sync.WaitGroup
	defer beats.Wait()
	defer stop() // before the wait
	beats.Go(func() { s.beat(ctx, stop) })
	err := h.events.Follow(ctx, after, func(e lodge.Event) error {
		line, err := e.MarshalJSON()
		if err != nil {
			return err
		}
		return s.write(fmt.Appendf(nil, "id: %d\nevent: %s\ndata: %s\n\n", e.Sequence, e.Type, line))
	})
	if err != nil && ctx.Err() == nil {
		slog.Info("a stream of events has ended", "client", r.RemoteAddr, "error", err)
	}
}

// stream is an answer that goes on.
type stream struct {
	mu      sync.Mutex
	w       http.ResponseWriter
	control *http.ResponseController
}

// write sends some bytes, or returns an error where the client does not take them in time.
func (s *stream) write(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.control.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	if _, err := s.w.Write(b); err != nil {
		return err
	}
	return s.control.Flush()
}

// beat shows now and then that the stream is alive, and ends it where the client is not.
func (s *stream) beat(ctx context.Context, stop func()) {
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if s.write([]byte(": alive\n\n")) != nil {
			stop()
			return
		}
	}
}
