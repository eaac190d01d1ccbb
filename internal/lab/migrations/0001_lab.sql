CREATE TABLE lab_experiments (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  request_key TEXT NOT NULL,
  suite TEXT NOT NULL,
  suite_name TEXT NOT NULL,
  package TEXT NOT NULL,
  identity TEXT NOT NULL,
  candidate TEXT NOT NULL,
  release_ref TEXT NOT NULL,
  split TEXT NOT NULL,
  trials BIGINT NOT NULL,
  limit_n BIGINT NOT NULL,
  seed TEXT NOT NULL,
  requester TEXT NOT NULL,
  purpose TEXT NOT NULL,
  status TEXT NOT NULL,
  num_done BIGINT NOT NULL,
  num_total BIGINT NOT NULL,
  num_passed BIGINT NOT NULL,
  why TEXT NOT NULL,
  started_at TEXT NOT NULL,
  ended_at TEXT NOT NULL,
  report TEXT NOT NULL
);
CREATE INDEX lab_experiments_by_time ON lab_experiments (started_at);
CREATE INDEX lab_experiments_by_key ON lab_experiments (request_key, started_at);
CREATE TABLE lab_trials (
  id TEXT PRIMARY KEY,
  experiment TEXT NOT NULL,
  suite TEXT NOT NULL,
  identity TEXT NOT NULL,
  scenario TEXT NOT NULL,
  trial BIGINT NOT NULL,
  seed TEXT NOT NULL,
  status TEXT NOT NULL,
  at TEXT NOT NULL,
  result TEXT NOT NULL,
  transcript TEXT NOT NULL
);
CREATE TABLE lab_tape (
  digest TEXT PRIMARY KEY,
  model TEXT NOT NULL,
  took BIGINT NOT NULL,
  response TEXT NOT NULL,
  at TEXT NOT NULL
);
CREATE INDEX lab_tape_by_time ON lab_tape (at);
CREATE TABLE audit_looks (
  id TEXT PRIMARY KEY,
  experiment TEXT NOT NULL,
  requester TEXT NOT NULL,
  purpose TEXT NOT NULL,
  base TEXT NOT NULL,
  candidate TEXT NOT NULL,
  suite TEXT NOT NULL,
  suite_name TEXT NOT NULL,
  at TEXT NOT NULL
);
CREATE INDEX audit_looks_by_time ON audit_looks (at);
