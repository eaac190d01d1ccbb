package run_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"sort"
	"sync"
	"testing"
	"time"

	"flywheel/internal/model"
	"flywheel/internal/platform/bus"
	"flywheel/internal/platform/db"
	"flywheel/internal/run"
	"flywheel/internal/tool"
)

// tenSteps is a conversation of four tool calls and five model calls, then the end: ten journal rows.
func tenSteps() chat {
	var answers []model.Response
	for i := range 4 {
		answers = append(answers, call("cards.find", fmt.Sprintf(`{"name":"customer %d"}`, i)))
	}
	return script(append(answers, say("That is all."))...)
}

func quick(_ context.Context, c tool.Call) tool.Attempt {
	return tool.Attempt{Tool: c.Name, Out: json.RawMessage(`{"cards":[{"id":"4711","status":"active"}]}`)}
}

// BenchmarkLoop is the overhead of the loop per step, with models and tools that take no time and a
// journal in memory.
func BenchmarkLoop(b *testing.B) {
	p := compile(b, deskPackage(), nil)
	effects := world{tenSteps(), quick}
	steps := 0
	b.ReportAllocs()
	for b.Loop() {
		tape := run.Tape{Rows: make([]run.Row, 0, 16)}
		_, err := run.Drive(b.Context(), run.DriveInput{
			Machine: run.NewMachine(p, run.Input{Message: "find"}, nil), Effects: effects, Recorder: &tape,
		})
		if err != nil {
			b.Fatal(err)
		}
		steps += len(tape.Rows)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(steps), "ns/step")
}

// BenchmarkStepLatency is the overhead per durable step of one run alone: p50 and p99.
func BenchmarkStepLatency(b *testing.B) {
	h := openHome(b, b.TempDir(), tenSteps(), attempts(quick), nil)
	p := h.use(compile(b, deskPackage(), nil))
	var took []time.Duration
	for b.Loop() {
		last := time.Now()
		req := message(p, "find")
		req.OnStep = func(run.Step) {
			now := time.Now()
			took = append(took, now.Sub(last))
			last = now
		}
		_, wait, err := h.Start(b.Context(), req)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := wait(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	sort.Slice(took, func(i, j int) bool { return took[i] < took[j] })
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs/step")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs/step")
}

// BenchmarkDurableSteps is the number of durable steps per second of 64 concurrent runs on SQLite with
// synchronous=FULL, events included.
func BenchmarkDurableSteps(b *testing.B) {
	h := openHome(b, b.TempDir(), tenSteps(), attempts(quick), nil)
	p := h.use(compile(b, deskPackage(), nil))
	work := make(chan struct{})
	var group sync.WaitGroup
	for range 64 {
		group.Go(func() {
			for range work {
				_, wait, err := h.Start(b.Context(), message(p, "find"))
				if err != nil {
					b.Error(err)
					continue
				}
				if r, err := wait(b.Context()); err != nil || r.Status != run.Succeeded {
					b.Error(r, err)
				}
			}
		})
	}
	b.ResetTimer()
	n := 0
	for b.Loop() {
		work <- struct{}{}
		n++
	}
	close(work)
	group.Wait()
	b.ReportMetric(float64(10*n)/b.Elapsed().Seconds(), "steps/s")
}

// BenchmarkFloor is a bare loop of group commits of one row each, for comparison.
func BenchmarkFloor(b *testing.B) {
	store, err := db.Open(b.Context(), filepath.Join(b.TempDir(), "floor.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	if err := db.Migrate(b.Context(), store, bus.Migrations, run.Migrations); err != nil {
		b.Fatal(err)
	}
	body := `{"model":"scripted/desk","messages":[{"role":"user","content":"find"}]}`
	work := make(chan int)
	var group sync.WaitGroup
	for range 64 {
		group.Go(func() {
			for i := range work {
				err := store.Write(b.Context(), func(tx *db.Tx) error {
					_, err := tx.Exec(b.Context(), `INSERT INTO journal
						(run, seq, step, kind, node, digest, input, output, started_at, ended_at, attempt, usage, class, labels)
						VALUES ($1, $2, 0, 'model', 'desk', 'sha256:0', $3, $4, '', '', 1, '', '', '')`,
						fmt.Sprintf("run_%020d", i/10), i%10, body, body)
					return err
				})
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
	n := 0
	for b.Loop() {
		work <- n
		n++
	}
	close(work)
	group.Wait()
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkSixTurns is a trial of six turns through a flow of every kind of node, without any recorder.
func BenchmarkSixTurns(b *testing.B) {
	p := compile(b, refundPackage(), nil)
	effects := world{script(call("cards.pay", `{"card_id":"4711"}`), say("Paid.")), quick}
	b.ReportAllocs()
	for b.Loop() {
		for range 6 {
			m := run.NewMachine(p, run.Input{Message: "pay 4711"}, nil)
			for {
				ended, err := run.Drive(b.Context(), run.DriveInput{Machine: m, Effects: effects})
				if err != nil {
					b.Fatal(err)
				}
				if ended.Status != run.Waiting {
					break
				}
				if err := m.Apply(m.Next()[0].Step, run.Answer{Human: &run.Human{Approved: true}}); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
}
