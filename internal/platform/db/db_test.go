package db_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"flywheel/internal/platform/db"
	"flywheel/internal/platform/fault"
)

func open(tb testing.TB, path string) *db.DB {
	tb.Helper()
	d, err := db.Open(tb.Context(), path)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = d.Close() })
	return d
}

func withTable(tb testing.TB) *db.DB {
	tb.Helper()
	d := open(tb, filepath.Join(tb.TempDir(), "a b?.db")) // a path that needs escaping
	write(tb, d, `CREATE TABLE t (k TEXT NOT NULL PRIMARY KEY, v BIGINT NOT NULL)`)
	return d
}

func write(tb testing.TB, d *db.DB, text string, args ...any) {
	tb.Helper()
	if err := d.Write(tb.Context(), func(tx *db.Tx) error {
		_, err := tx.Exec(tb.Context(), text, args...)
		return err
	}); err != nil {
		tb.Fatal(err)
	}
}

func count(tb testing.TB, d *db.DB, where string) int {
	tb.Helper()
	var n int
	if err := d.QueryRow(context.Background(), `SELECT COUNT(*) FROM t WHERE `+where).Scan(&n); err != nil {
		tb.Fatal(err)
	}
	return n
}

// together runs writes so that they share one commit: the first holds the writer until all are queued.
func together(d *db.DB, fns ...func(tx *db.Tx) error) []error {
	ctx := context.Background()
	holding, release := make(chan struct{}), make(chan struct{})
	held := make(chan error, 1)
	go func() {
		held <- d.Write(ctx, func(*db.Tx) error { close(holding); <-release; return nil })
	}()
	<-holding
	errs := make([]error, len(fns))
	var wg sync.WaitGroup
	for i, fn := range fns {
		wg.Go(func() { errs[i] = d.Write(ctx, fn) })
	}
	for db.Queued(d) < len(fns) {
		time.Sleep(time.Millisecond) // there is no signal for a queued write, and only this test needs one
	}
	close(release)
	<-held
	wg.Wait()
	return errs
}

func insert(k string) func(tx *db.Tx) error {
	return func(tx *db.Tx) error {
		_, err := tx.Exec(context.Background(), `INSERT INTO t (k, v) VALUES ($1, 1)`, k)
		return err
	}
}

func TestOneFailingCallerDoesNotHarmOthers(t *testing.T) {
	t.Parallel()
	d := withTable(t)
	refused := errors.New("refused")
	cancelled, cancel := context.WithCancel(context.Background())
	errs := together(d,
		insert("a"),
		func(tx *db.Tx) error { return errors.Join(insert("b")(tx), refused) },
		func(tx *db.Tx) error { _ = insert("c")(tx); panic("ouch") },
		func(tx *db.Tx) error { _ = insert("d")(tx); return insert("d")(tx) }, // breaks the primary key
		func(tx *db.Tx) error { // its context ends between two statements
			_ = insert("e1")(tx)
			cancel()
			_, err := tx.Exec(cancelled, `INSERT INTO t (k, v) VALUES ('e2', 1)`)
			return err
		},
		insert("f"),
	)
	for i, want := range []bool{true, false, false, false, true, true} {
		if (errs[i] == nil) != want {
			t.Errorf("caller %d: %v", i, errs[i])
		}
	}
	if !errors.Is(errs[1], refused) || !strings.Contains(fmt.Sprint(errs[2]), "ouch") {
		t.Errorf("errors: %v, %v", errs[1], errs[2])
	}
	if n := count(t, d, "k IN ('a', 'e1', 'e2', 'f')"); n != 4 {
		t.Errorf("%d of 4 good rows", n)
	}
	if n := count(t, d, "k IN ('b', 'c', 'd')"); n != 0 {
		t.Errorf("%d rows of failed callers", n)
	}
}

func TestErrorOfALoneCallerIsItsOwn(t *testing.T) {
	t.Parallel()
	d := withTable(t)
	refused := errors.New("refused")
	err := d.Write(t.Context(), func(tx *db.Tx) error { _ = insert("a")(tx); return refused })
	if err != refused { //nolint:errorlint // the very error comes back
		t.Errorf("error: %v", err)
	}
	if n := count(t, d, "1=1"); n != 0 {
		t.Errorf("%d rows", n)
	}
}

func TestLostTransactionFailsOnlyThoseWhoTookPart(t *testing.T) {
	t.Parallel()
	d := withTable(t)
	errs := together(d, insert("a"), func(tx *db.Tx) error {
		_ = insert("b")(tx)
		_, err := tx.Exec(context.Background(), `ROLLBACK`) // as a full disk makes the engine do
		return err
	}, insert("c"))
	rows := count(t, d, "1=1")
	succeeded := 0
	for _, err := range errs {
		if err == nil {
			succeeded++
		}
	}
	if rows != succeeded || errs[1] == nil {
		t.Errorf("%d rows, %d successes: %v", rows, succeeded, errs)
	}
	if err := d.Write(t.Context(), insert("later")); err != nil {
		t.Errorf("the writer did not recover: %v", err)
	}
}

func TestWriteWithEndedContextDoesNothing(t *testing.T) {
	t.Parallel()
	d := withTable(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Write(ctx, insert("a")); !errors.Is(err, context.Canceled) {
		t.Errorf("error: %v", err)
	}
	if n := count(t, d, "1=1"); n != 0 {
		t.Errorf("%d rows", n)
	}
}

func TestOnCommitRunsOnlyWhenDurable(t *testing.T) {
	t.Parallel()
	d := withTable(t)
	var ran atomic.Int64
	hook := func(fail error) func(tx *db.Tx) error {
		return func(tx *db.Tx) error {
			tx.OnCommit(func() { ran.Add(1) })
			return fail
		}
	}
	together(d, hook(nil), hook(errors.New("no")), hook(nil))
	if n := ran.Load(); n != 2 {
		t.Errorf("%d hooks ran, want 2", n)
	}
}

func TestCloseFinishesQueuedWritesAndRefusesLater(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.db")
	d := open(t, path)
	write(t, d, `CREATE TABLE t (k TEXT NOT NULL PRIMARY KEY, v BIGINT NOT NULL)`)
	var acknowledged atomic.Int64
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if err := d.Write(context.Background(), insert(fmt.Sprint("k", i))); err == nil {
				acknowledged.Add(1)
			} else if !errors.Is(err, db.ErrClosed) {
				t.Errorf("error: %v", err)
			}
		})
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if err := d.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if err := d.Write(t.Context(), insert("late")); !errors.Is(err, db.ErrClosed) {
		t.Errorf("error after Close: %v", err)
	}
	if n := count(t, open(t, path), "1=1"); int64(n) != acknowledged.Load() {
		t.Errorf("%d rows, %d acknowledged", n, acknowledged.Load())
	}
}

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	if path := os.Getenv("DB_TEST_WRITER"); path != "" {
		writeUntilKilled(path)
	}
	os.Exit(m.Run())
}

func writeUntilKilled(path string) {
	ctx := context.Background()
	d, err := db.Open(ctx, path)
	if err != nil {
		panic(err)
	}
	for w := range 8 {
		go func() {
			for i := 0; ; i++ {
				k := fmt.Sprintf("%d-%d", w, i)
				if err := d.Write(ctx, insert(k)); err != nil {
					panic(err)
				}
				fmt.Println(k) // acknowledged: the parent counts on it
			}
		}()
	}
	select {}
}

func TestAcknowledgedWritesSurviveAKill(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.db")
	d := open(t, path)
	write(t, d, `CREATE TABLE t (k TEXT NOT NULL PRIMARY KEY, v BIGINT NOT NULL)`)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "DB_TEST_WRITER="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	buf := make([]byte, 1024)
	for text.Len() < 2000 {
		n, err := out.Read(buf)
		text.Write(buf[:n])
		if err != nil {
			break
		}
	}
	_ = cmd.Process.Kill()
	for { // what it said before it died
		n, err := out.Read(buf)
		text.Write(buf[:n])
		if err != nil {
			break
		}
	}
	_ = cmd.Wait()
	whole := text.String()
	acknowledged := strings.Fields(whole[:strings.LastIndex(whole, "\n")+1])
	if len(acknowledged) < 100 {
		t.Fatalf("only %d writes: %q", len(acknowledged), whole)
	}
	after := open(t, path)
	for _, k := range acknowledged {
		if count(t, after, "k = '"+k+"'") != 1 {
			t.Errorf("%s was acknowledged and is lost", k)
		}
	}
}

func TestReadersCannotWrite(t *testing.T) {
	t.Parallel()
	d := withTable(t)
	rows, err := d.Query(t.Context(), `DELETE FROM t`)
	if err == nil {
		_ = rows.Next()
		err = errors.Join(rows.Err(), rows.Close())
	}
	if err == nil {
		t.Error("a reader could delete")
	}
}

func TestMigrateStepsForwardOnceAndRefusesNewerHomes(t *testing.T) {
	t.Parallel()
	d := open(t, filepath.Join(t.TempDir(), "x.db"))
	one := fstest.MapFS{"migrations/0001_t.sql": {Data: []byte("CREATE TABLE t (k TEXT);\nINSERT INTO t VALUES ('a; b');\n")}}
	two := fstest.MapFS{
		"migrations/0001_t.sql":    one["migrations/0001_t.sql"],
		"migrations/0002_more.sql": {Data: []byte("INSERT INTO t VALUES ('c');\n")},
	}
	for _, files := range []fstest.MapFS{one, one, two, two} {
		if err := db.Migrate(t.Context(), d, db.Migrations{Domain: "x", Files: files}); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(t, d, "1=1"); n != 2 {
		t.Errorf("%d rows: a step ran twice or not at all", n)
	}
	err := db.Migrate(t.Context(), d, db.Migrations{Domain: "x", Files: one})
	if !fault.HasCode(err, "db.newer") {
		t.Errorf("error: %v", err)
	}
	broken := fstest.MapFS{"migrations/0001_y.sql": {Data: []byte("CREATE TABLE y (k TEXT);\nNONSENSE;\n")}}
	if err := db.Migrate(t.Context(), d, db.Migrations{Domain: "y", Files: broken}); err == nil {
		t.Error("a broken step was taken")
	}
	if err := d.QueryRow(t.Context(), `SELECT COUNT(*) FROM y`).Scan(new(int)); err == nil {
		t.Error("half of a broken step stayed")
	}
}

func TestStoredTimesSortAndComeBack(t *testing.T) {
	t.Parallel()
	a := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.FixedZone("x", 3600))
	b := a.Add(time.Microsecond)
	if db.FormatTime(a) >= db.FormatTime(b) || len(db.FormatTime(a)) != len(db.FormatTime(b.Add(time.Hour))) {
		t.Errorf("%s %s", db.FormatTime(a), db.FormatTime(b))
	}
	if got, err := db.ParseTime(db.FormatTime(a)); err != nil || !got.Equal(a) {
		t.Errorf("%v %v", got, err)
	}
	if db.FormatOptional(a) != db.FormatTime(a) || db.FormatOptional(time.Time{}) != "" {
		t.Errorf("%q %q", db.FormatOptional(a), db.FormatOptional(time.Time{}))
	}
	if db.Flag(true) != 1 || db.Flag(false) != 0 {
		t.Error("flags")
	}
	if got, err := db.ParseTime(""); err != nil || !got.IsZero() {
		t.Errorf("%v %v", got, err)
	}
}

// BenchmarkGroupCommit is durable writes per second by the number of callers that wait at once.
func BenchmarkGroupCommit(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			d := withTable(b)
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			for range writers {
				wg.Go(func() {
					for {
						i := next.Add(1)
						if i > int64(b.N) {
							return
						}
						if err := d.Write(context.Background(), insert(fmt.Sprint(i))); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
		})
	}
}
