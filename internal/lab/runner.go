package lab

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"flywheel/internal/platform/fault"
)

// runner does the jobs of one experiment: some at a time, each result durable before it counts.
type runner struct {
	s        *Service
	exp      *Experiment
	jobs     []job
	parallel int
	fresh    bool
	progress func(Progress)
	// each is told of every result, in the order in which they became durable, from one goroutine. It may
	// fill in what a comparison knows; errStop ends the experiment early and well.
	each func(i int, t *Trial, p *Progress) error

	state  Progress
	began  time.Time
	errors int // in a row
}

// errStop says that enough is known.
var errStop = errors.New("enough is known")

// maxErrors in a row, and the experiment gives up: the model is gone.
const maxErrors = 3

// maxBatch is how many results share one write.
const maxBatch = 128

type result struct {
	i      int
	stored stored
	reused bool
	err    error
}

// run ends with nil when all jobs are done or enough is known.
func (r *runner) run(parent context.Context) error {
	known, err := r.known(parent)
	if err != nil {
		return fmt.Errorf("look for stored trials: %w", err)
	}
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	r.began = time.Now()
	r.state = Progress{Experiment: r.exp.ID, Total: len(r.jobs)}
	r.exp.Total = len(r.jobs)
	results := make(chan result, maxBatch)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(max(1, r.parallel), max(1, len(r.jobs))) {
		workers.Go(func() { r.work(ctx, &next, known, results) })
	}
	go func() {
		workers.Wait()
		close(results)
	}()
	var stop error
	for first := range results {
		if stop != nil {
			continue // drained, so that workers can end
		}
		if stop = r.take(ctx, collect(first, results)); stop != nil {
			cancel(stop)
		}
	}
	switch {
	case errors.Is(stop, errStop):
		return nil
	case stop != nil:
		return stop
	case parent.Err() != nil && r.state.Done < len(r.jobs):
		return context.Cause(parent)
	}
	return nil
}

// known are the results that exist. A fresh experiment trusts only its own.
func (r *runner) known(ctx context.Context) (map[string]*Trial, error) {
	ids := make([]string, len(r.jobs))
	for i := range r.jobs {
		ids[i] = r.jobs[i].id
	}
	known, err := storedTrials(ctx, r.s.deps.DB, ids)
	if r.fresh {
		for id, t := range known {
			if t.Experiment != r.exp.ID {
				delete(known, id)
			}
		}
	}
	return known, err
}

func (r *runner) work(ctx context.Context, next *atomic.Int64, known map[string]*Trial, results chan<- result) {
	for ctx.Err() == nil {
		i := int(next.Add(1)) - 1
		if i >= len(r.jobs) {
			return
		}
		j := r.jobs[i]
		out := result{i: i}
		if t := known[j.id]; t != nil {
			out.stored.trial, out.reused = t, true
		} else {
			j.live = r.fresh
			t, err := r.s.runTrial(ctx, j)
			if err != nil {
				return // ctx has ended
			}
			t.Experiment = r.exp.ID
			out.stored, out.err = encodeTrial(t)
		}
		results <- out
	}
}

// collect takes what else is there.
func collect(first result, results <-chan result) []result {
	batch := []result{first}
	for len(batch) < maxBatch {
		select {
		case r, ok := <-results:
			if !ok {
				return batch
			}
			batch = append(batch, r)
		default:
			return batch
		}
	}
	return batch
}

// take makes a batch durable, then counts it.
func (r *runner) take(ctx context.Context, batch []result) error {
	var list []stored
	for _, b := range batch {
		if b.err != nil {
			return fmt.Errorf("write a trial of %s: %w", r.jobs[b.i].scenario.Name, b.err)
		}
		if !b.reused {
			list = append(list, b.stored)
		}
	}
	if err := saveTrials(ctx, r.s.deps.DB, list); err != nil {
		return fmt.Errorf("keep trials: %w", err)
	}
	var stop error
	for _, b := range batch {
		if stop = r.count(b); stop != nil {
			break
		}
	}
	r.report()
	return stop
}

func (r *runner) count(b result) error {
	t := b.stored.trial
	p := &r.state
	p.Done++
	p.Last = t.Scenario
	if b.reused {
		p.Reused++
	}
	switch t.Status {
	case Passed:
		p.Passed++
	case Failed:
		p.Failed++
	default:
		p.Errors++
	}
	r.exp.Done, r.exp.Passed = p.Done, p.Passed
	if err := r.each(b.i, t, p); err != nil {
		return err
	}
	if t.Status != Errored {
		r.errors = 0
		return nil
	}
	if r.errors++; r.errors < maxErrors && (p.Done > p.Errors || len(r.jobs) > p.Done) {
		return nil
	}
	if t.cause != nil {
		return t.cause
	}
	return fault.New(fault.Unavailable, "lab.error", "%s", t.Error)
}

func (r *runner) report() {
	p := r.state
	p.Elapsed = time.Since(r.began)
	if ran := p.Done - p.Reused; ran > 0 {
		p.Left = p.Elapsed / time.Duration(ran) * time.Duration(p.Total-p.Done)
	}
	if r.progress != nil {
		r.progress(p)
	}
	if r.s.deps.Bus != nil {
		r.s.deps.Bus.Publish("experiment.progress", p.Experiment, p)
	}
}
