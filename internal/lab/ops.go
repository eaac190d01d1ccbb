package lab

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"flywheel/internal/agent"
	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/op"
)

// Released is what the lab has to know of a release.
type Released struct {
	Name     string // as people say it: card-desk release 3
	Identity blob.Digest
	Suite    blob.Digest // the suite that its gate used; may be empty
}

type testIn struct {
	Suite    string  `json:"suite,omitempty" cli:"arg" doc:"Suite; needed when the package has several"`
	Files    op.Dir  `json:"files,omitempty" cli:"dir" doc:"Package"`
	Release  string  `json:"release,omitempty" doc:"Test a release instead of the draft: NAME@CHANNEL, number or digest"`
	Split    string  `json:"split,omitempty" default:"dev" doc:"Scenarios: dev; audit is for the gate alone"`
	Trials   int     `json:"trials,omitempty" minimum:"0" doc:"Trials per scenario; default the suite's"`
	Limit    int     `json:"limit,omitempty" minimum:"0" doc:"At most so many scenarios, spread over families"`
	Seed     uint64  `json:"seed,omitempty" doc:"Seed of trials and faults"`
	Parallel int     `json:"parallel,omitempty" minimum:"0" doc:"Trials at once; default 1 for local models"`
	Fresh    bool    `json:"fresh,omitempty" doc:"run stored trials again, and ask the model again"`
	AtLeast  float64 `json:"at_least,omitempty" minimum:"0" maximum:"1" doc:"Exit with an error when the pass rate is lower"`
	JUnit    string  `json:"junit,omitempty" doc:"Write JUnit XML to this file in the package"`
	Markdown string  `json:"markdown,omitempty" doc:"Write a summary to this file in the package"`
}

type testOut struct {
	Report  *Report `json:"report"`
	AtLeast float64 `json:"at_least,omitempty"`
	Files   op.Dir  `json:"files,omitempty" write:"true"`
}

// Failure is how the command ends: a partial report is not a result.
func (o testOut) Failure() error {
	switch {
	case o.Report == nil:
		return nil
	case o.Report.Status == StatusPartial:
		return fault.New(fault.Canceled, "lab.partial", "the test is partial: %s", o.Report.Why)
	case o.Report.Total.Rate.Rate < o.AtLeast:
		return fault.New(fault.Conflict, "lab.below", "the pass rate is %.2f, asked: %.2f", o.Report.Total.Rate.Rate, o.AtLeast)
	}
	return nil
}

type listIn struct {
	Limit int `query:"limit" minimum:"0" maximum:"1000" default:"20" doc:"How many"`
}

type listOut struct {
	Experiments []*Experiment `json:"experiments"`
}

type showIn struct {
	Experiment string `path:"experiment" cli:"arg" doc:"Experiment"`
}

type showOut struct {
	Experiment *Experiment `json:"experiment"`
	Report     *Report     `json:"report,omitempty"`
	Comparison *Comparison `json:"comparison,omitempty"`
}

type trialIn struct {
	Trial string `path:"trial" cli:"arg" doc:"Trial"`
}

type looksOut struct {
	Looks []Look `json:"looks"`
}

// Ops are the operations of the lab.
func (s *Service) Ops() []op.Op {
	test := op.Stream(op.Meta{
		ID: "test.run", Path: "/api/v1/tests", Summary: "Run a suite against the package or a release", Permission: "test.run",
		Audit: "test", Stage: 4, CLI: "test", Example: "flywheel test smoke --trials 4 --junit report.xml", MCP: true, Progress: true,
	}, s.testOp)
	return []op.Op{
		op.WithEventText(op.WithText(test, func(w io.Writer, o *testOut) { WriteText(w, o.Report) }), writeProgress),
		op.WithText(op.New(op.Meta{
			ID: "experiment.list", Method: http.MethodGet, Path: "/api/v1/experiments", Summary: "List tests and comparisons",
			Permission: "test.read", Stage: 4, CLI: "experiments", Example: "flywheel experiments", MCP: true,
		}, func(ctx context.Context, in *listIn) (*listOut, error) {
			list, err := s.List(ctx, ListFilter{Limit: in.Limit})
			return &listOut{list}, err
		}), writeExperiments),
		op.WithText(op.New(op.Meta{
			ID: "experiment.show", Method: http.MethodGet, Path: "/api/v1/experiments/{experiment}", Summary: "Show the report of a test or comparison",
			Permission: "test.read", Stage: 4, CLI: "experiments show", Example: "flywheel experiments show exp_01k…", MCP: true,
		}, s.showOp), writeShown),
		op.WithText(op.New(op.Meta{
			ID: "trial.show", Method: http.MethodGet, Path: "/api/v1/trials/{trial}", Summary: "Show what happened in a trial",
			Permission: "test.read", Stage: 4, CLI: "trial", Example: "flywheel trial trial_4f…", MCP: true,
		}, func(ctx context.Context, in *trialIn) (*Trial, error) { return s.Trial(ctx, in.Trial) }), WriteTrial),
		op.WithText(op.New(op.Meta{
			ID: "audit_look.list", Method: http.MethodGet, Path: "/api/v1/audit-looks", Summary: "List who has used the audit split",
			Permission: "test.read", Stage: 4, CLI: "experiments looks", Example: "flywheel experiments looks",
		}, func(ctx context.Context, in *listIn) (*looksOut, error) {
			list, err := s.Looks(ctx, in.Limit)
			return &looksOut{list}, err
		}), writeLooks),
	}
}

func (s *Service) testOp(ctx context.Context, in *testIn, emit func(Progress)) (*testOut, error) {
	if _, err := checkSplit(in.Split, ""); err != nil {
		return nil, err
	}
	for _, file := range []string{in.JUnit, in.Markdown} {
		if file != "" && (path.IsAbs(file) || strings.HasPrefix(path.Clean(file), "..")) {
			return nil, fault.New(fault.Invalid, "lab.file", "%s is not in the package", file).WithHint("name a file in the package, or use --json > FILE")
		}
	}
	req := Request{
		Split: in.Split, Trials: in.Trials, Limit: in.Limit, Seed: in.Seed, Parallel: in.Parallel, Fresh: in.Fresh,
		Requester: op.Actor(ctx), Purpose: "test", Release: in.Release,
	}
	if err := s.target(ctx, in, &req); err != nil {
		return nil, err
	}
	last := time.Time{}
	report, err := s.Test(ctx, req, func(p Progress) {
		if now := time.Now(); p.Done == p.Total || now.Sub(last) > 200*time.Millisecond {
			last = now
			emit(p)
		}
	})
	if report == nil {
		return nil, err
	}
	if err != nil && report.Status == StatusDone { // it could not be kept
		return nil, err
	}
	if report.Total.Trials == 0 && err != nil && ctx.Err() == nil {
		return nil, err // nothing was found but the error
	}
	out := &testOut{Report: report, AtLeast: in.AtLeast, Files: op.Dir{}}
	for file, write := range map[string]func(io.Writer, *Report) error{in.JUnit: WriteJUnit, in.Markdown: WriteMarkdown} {
		if file == "" {
			continue
		}
		var b bytes.Buffer
		if err := write(&b, report); err != nil {
			return nil, err
		}
		out.Files[path.Clean(file)] = b.Bytes()
	}
	return out, nil
}

// target finds out what is tested and on which suite.
func (s *Service) target(ctx context.Context, in *testIn, req *Request) error {
	if in.Release != "" {
		if s.deps.Release == nil {
			return fault.New(fault.Unavailable, "lab.no_releases", "releases cannot be read here")
		}
		r, err := s.deps.Release(ctx, in.Release)
		if err != nil {
			return err
		}
		req.Identity, req.Suite, req.Release = r.Identity, r.Suite, r.Name
	}
	if len(in.Files) > 0 {
		resolved, suiteID, err := s.Draft(ctx, in.Files, in.Suite)
		if err != nil {
			return err
		}
		req.Suite = suiteID
		if req.Identity == "" {
			req.Identity = resolved.Identity
		}
	}
	if req.Identity == "" || req.Suite == "" {
		return fault.New(fault.Invalid, "lab.nothing", "there is nothing to test").WithHint("run it in a package, or give --dir or --release")
	}
	return nil
}

// Draft checks a package directory, stores the package and one of its suites, and gives the digest of the
// suite. Without a name the package must have exactly one suite.
func (s *Service) Draft(ctx context.Context, files op.Dir, name string) (*agent.Resolved, blob.Digest, error) {
	checker := s.deps.Checker
	if checker == nil {
		checker = agent.New(SuiteKind())
	}
	resolved, problems := checker.Check(files)
	if resolved == nil {
		if err := agent.Fault(problems); err != nil {
			return nil, "", err
		}
		return nil, "", fault.New(fault.Invalid, "package.invalid", "the package cannot be read").WithHint("flywheel check")
	}
	src, err := pickSuite(resolved, name)
	if err != nil {
		return nil, "", err
	}
	su, err := Expand(src)
	if err != nil {
		return nil, "", err
	}
	digest, err := s.StoreSuite(ctx, su)
	if err != nil {
		return nil, "", err
	}
	return resolved, digest, agent.Store(ctx, s.deps.Blobs, resolved)
}

func pickSuite(r *agent.Resolved, name string) (*agent.SuiteSource, error) {
	names := slices.Sorted(maps.Keys(r.Suites))
	switch {
	case len(names) == 0:
		return nil, fault.New(fault.NotFound, "lab.no_suite", "the package has no suite").WithHint("write suites/smoke.suite.yaml")
	case name == "" && len(names) == 1:
		return r.Suites[names[0]], nil
	case name == "":
		return nil, fault.New(fault.Invalid, "lab.which_suite", "the package has the suites %s", strings.Join(names, ", ")).
			WithHint("flywheel test %s", names[0])
	case r.Suites[name] == nil:
		return nil, fault.New(fault.NotFound, "lab.no_suite", "there is no suite %q", name).WithHint("%s", meant(name, names))
	}
	return r.Suites[name], nil
}

func (s *Service) showOp(ctx context.Context, in *showIn) (*showOut, error) {
	e, report, err := s.Get(ctx, in.Experiment)
	if err != nil {
		return nil, err
	}
	out := &showOut{Experiment: e}
	switch r := report.(type) {
	case *Report:
		out.Report = r
	case *Comparison:
		out.Comparison = r
	}
	return out, nil
}

func writeShown(w io.Writer, o *showOut) {
	switch {
	case o.Report != nil:
		WriteText(w, o.Report)
	case o.Comparison != nil:
		WriteComparison(w, o.Comparison)
	default:
		printf(w, "%s is %s: %d of %d trials\n", o.Experiment.ID, o.Experiment.Status, o.Experiment.Done, o.Experiment.Total)
	}
}

func writeExperiments(w io.Writer, o *listOut) {
	if len(o.Experiments) == 0 {
		printf(w, "no experiments yet: flywheel test\n")
		return
	}
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	printf(tw, "EXPERIMENT\tKIND\tPACKAGE\tSUITE\tSPLIT\tSTATUS\tPASSED\tWHEN\n")
	for _, e := range o.Experiments {
		what := e.Package + " " + e.Identity.Short()
		if e.Candidate != "" {
			what = e.Package + " " + e.Candidate.Short() + " against " + e.Identity.Short()
		}
		printf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%d/%d\t%s\n", e.ID, e.Kind, what, e.Suite, e.Split, e.Status, e.Passed, e.Done,
			e.StartedAt.Local().Format("2006-01-02 15:04"))
	}
	_ = tw.Flush()
}

func writeLooks(w io.Writer, o *looksOut) {
	if len(o.Looks) == 0 {
		printf(w, "nobody has used an audit split\n")
		return
	}
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	printf(tw, "WHEN\tWHO\tWHY\tSUITE\tCANDIDATE\tBASE\tEXPERIMENT\n")
	for _, l := range o.Looks {
		printf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.At.Local().Format("2006-01-02 15:04"), l.Requester, l.Purpose, l.Suite,
			l.Candidate.Short(), l.Base.Short(), l.Experiment)
	}
	_ = tw.Flush()
}
