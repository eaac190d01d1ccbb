CREATE TABLE run_facts (
	run            TEXT NOT NULL PRIMARY KEY,
	agent          TEXT NOT NULL,
	release        TEXT NOT NULL,
	identity       TEXT NOT NULL,
	channel        TEXT NOT NULL,
	source         TEXT NOT NULL,
	session        TEXT NOT NULL,
	status         TEXT NOT NULL,
	class          TEXT NOT NULL,
	started_at     TEXT NOT NULL,
	ended_at       TEXT NOT NULL,
	elapsed        BIGINT NOT NULL,
	tokens_in      BIGINT NOT NULL,
	tokens_out     BIGINT NOT NULL,
	cost           BIGINT NOT NULL,
	compute        BIGINT NOT NULL,
	steps          BIGINT NOT NULL,
	tool_calls     BIGINT NOT NULL,
	tool_errors    BIGINT NOT NULL,
	tool_attempts  BIGINT NOT NULL,
	tool_failures  BIGINT NOT NULL,
	facts          TEXT NOT NULL,
	verdict        TEXT NOT NULL,
	verdict_source TEXT NOT NULL,
	fingerprint    TEXT NOT NULL
);
CREATE INDEX run_facts_agent ON run_facts (agent, release, elapsed);
CREATE INDEX run_facts_session ON run_facts (session, started_at);
CREATE INDEX run_facts_fingerprint ON run_facts (fingerprint, started_at);
CREATE TABLE run_tools (
	run       TEXT NOT NULL,
	tool      TEXT NOT NULL,
	calls     BIGINT NOT NULL,
	errors    BIGINT NOT NULL,
	attempts  BIGINT NOT NULL,
	failures  BIGINT NOT NULL,
	PRIMARY KEY (run, tool)
);
CREATE TABLE outcomes (
	id          TEXT NOT NULL PRIMARY KEY,
	run         TEXT NOT NULL,
	session     TEXT NOT NULL,
	verdict     TEXT NOT NULL,
	source      TEXT NOT NULL,
	who         TEXT NOT NULL,
	note        TEXT NOT NULL,
	expected    TEXT NOT NULL,
	got         TEXT NOT NULL,
	confidence  DOUBLE PRECISION NOT NULL,
	key         TEXT,
	at          TEXT NOT NULL
);
CREATE UNIQUE INDEX outcomes_key ON outcomes (key);
CREATE INDEX outcomes_run ON outcomes (run);
CREATE INDEX outcomes_session ON outcomes (session);
CREATE TABLE finding_titles (
	fingerprint  TEXT NOT NULL PRIMARY KEY,
	agent        TEXT NOT NULL,
	title        TEXT NOT NULL,
	node         TEXT NOT NULL,
	class        TEXT NOT NULL,
	what         TEXT NOT NULL,
	path         TEXT NOT NULL,
	expected     TEXT NOT NULL,
	component    TEXT NOT NULL,
	name         TEXT NOT NULL,
	why          TEXT NOT NULL,
	found_at     TEXT NOT NULL
);
CREATE TABLE release_marks (
	release  TEXT NOT NULL PRIMARY KEY,
	agent    TEXT NOT NULL,
	number   BIGINT NOT NULL,
	forced   BIGINT NOT NULL,
	at       TEXT NOT NULL
);
CREATE TABLE channel_marks (
	agent         TEXT NOT NULL,
	channel       TEXT NOT NULL,
	seq           BIGINT NOT NULL,
	kind          TEXT NOT NULL,
	from_release  TEXT NOT NULL,
	to_release    TEXT NOT NULL,
	share         DOUBLE PRECISION NOT NULL,
	who           TEXT NOT NULL,
	why           TEXT NOT NULL,
	at            TEXT NOT NULL,
	PRIMARY KEY (agent, channel, seq)
);
