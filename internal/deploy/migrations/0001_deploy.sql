CREATE TABLE deployments (
	agent       TEXT NOT NULL,
	channel     TEXT NOT NULL,
	env         TEXT NOT NULL,
	created_at  TEXT NOT NULL,
	updated_at  TEXT NOT NULL,
	updated_by  TEXT NOT NULL,
	PRIMARY KEY (agent, channel)
)
