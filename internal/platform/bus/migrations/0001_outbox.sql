CREATE TABLE events (
	seq BIGINT NOT NULL PRIMARY KEY,
	at TEXT NOT NULL,
	topic TEXT NOT NULL,
	subject TEXT NOT NULL,
	payload TEXT NOT NULL
);
CREATE INDEX events_topic ON events (topic, seq);
CREATE TABLE consumers (
	name TEXT NOT NULL PRIMARY KEY,
	seq BIGINT NOT NULL
);
CREATE TABLE parked_events (
	consumer TEXT NOT NULL,
	seq BIGINT NOT NULL,
	at TEXT NOT NULL,
	error TEXT NOT NULL,
	PRIMARY KEY (consumer, seq)
);
