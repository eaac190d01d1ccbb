CREATE TABLE sessions (
	hash TEXT NOT NULL PRIMARY KEY,
	actor TEXT NOT NULL,
	created_at TEXT NOT NULL,
	expires_at TEXT NOT NULL
);
CREATE TABLE login_codes (
	hash TEXT NOT NULL PRIMARY KEY,
	actor TEXT NOT NULL,
	expires_at TEXT NOT NULL
);
