CREATE TABLE evolve_cycles (
  id TEXT PRIMARY KEY,
  agent TEXT NOT NULL,
  channel TEXT NOT NULL,
  base TEXT NOT NULL,
  identity TEXT NOT NULL,
  suite TEXT NOT NULL,
  state TEXT NOT NULL,
  note TEXT NOT NULL,
  requested_by TEXT NOT NULL,
  created_at TEXT NOT NULL,
  ended_at TEXT NOT NULL
);
CREATE INDEX evolve_cycles_agent ON evolve_cycles (agent, created_at);
CREATE TABLE evolve_proposals (
  id TEXT PRIMARY KEY,
  cycle TEXT NOT NULL REFERENCES evolve_cycles (id),
  position BIGINT NOT NULL,
  agent TEXT NOT NULL,
  kind TEXT NOT NULL,
  state TEXT NOT NULL,
  candidate TEXT NOT NULL,
  release TEXT NOT NULL,
  body TEXT NOT NULL,
  created_at TEXT NOT NULL
);
CREATE INDEX evolve_proposals_agent ON evolve_proposals (agent, created_at);
CREATE INDEX evolve_proposals_release ON evolve_proposals (release);
CREATE TABLE evolve_transitions (
  proposal TEXT NOT NULL REFERENCES evolve_proposals (id),
  seq BIGINT NOT NULL,
  from_state TEXT NOT NULL,
  to_state TEXT NOT NULL,
  at TEXT NOT NULL,
  by_whom TEXT NOT NULL,
  note TEXT NOT NULL,
  PRIMARY KEY (proposal, seq)
);
CREATE TABLE evolve_audits (
  agent TEXT NOT NULL,
  look BIGINT NOT NULL,
  proposal TEXT NOT NULL UNIQUE,
  bound TEXT NOT NULL,
  at TEXT NOT NULL,
  PRIMARY KEY (agent, look)
);
