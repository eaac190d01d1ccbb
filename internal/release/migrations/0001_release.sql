CREATE TABLE releases (
	digest      TEXT NOT NULL PRIMARY KEY,
	agent       TEXT NOT NULL,
	number      BIGINT NOT NULL,
	identity    TEXT NOT NULL,
	suite       TEXT NOT NULL,
	size        BIGINT NOT NULL,
	verdict     TEXT NOT NULL,
	forced      BIGINT NOT NULL,
	test        TEXT NOT NULL,
	comparison  TEXT NOT NULL,
	notes       TEXT NOT NULL,
	created_by  TEXT NOT NULL,
	created_at  TEXT NOT NULL
);
CREATE UNIQUE INDEX releases_number ON releases (agent, number);
CREATE INDEX releases_identity ON releases (identity);
CREATE TABLE release_attestations (
	release    TEXT NOT NULL,
	seq        BIGINT NOT NULL,
	manifest   TEXT NOT NULL,
	kind       TEXT NOT NULL,
	predicate  TEXT NOT NULL,
	at         TEXT NOT NULL,
	PRIMARY KEY (release, seq)
);
CREATE TABLE channels (
	agent      TEXT NOT NULL,
	name       TEXT NOT NULL,
	stable     TEXT NOT NULL,
	canary     TEXT NOT NULL,
	share      DOUBLE PRECISION NOT NULL,
	moved_at   TEXT NOT NULL,
	PRIMARY KEY (agent, name)
);
CREATE TABLE channel_moves (
	agent         TEXT NOT NULL,
	channel       TEXT NOT NULL,
	seq           BIGINT NOT NULL,
	kind          TEXT NOT NULL,
	from_release  TEXT NOT NULL,
	to_release    TEXT NOT NULL,
	on_canary     BIGINT NOT NULL,
	share         DOUBLE PRECISION NOT NULL,
	who           TEXT NOT NULL,
	why           TEXT NOT NULL,
	verdict       TEXT NOT NULL,
	at            TEXT NOT NULL,
	PRIMARY KEY (agent, channel, seq)
);
