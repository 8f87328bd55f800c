-- +goose Up
-- Times are microseconds since 1970, UTC. JSON columns hold the root package's types.

CREATE TABLE target (
	id         INTEGER PRIMARY KEY,
	kind       TEXT NOT NULL,
	name       TEXT NOT NULL UNIQUE,
	address    TEXT NOT NULL UNIQUE,
	held       TEXT NOT NULL DEFAULT '',  -- code of the reason; '' while it takes deliveries
	held_words TEXT NOT NULL DEFAULT '',
	held_count INTEGER NOT NULL DEFAULT 0 -- how often it was held so far
);

-- Payloads stay apart from the hot row.
CREATE TABLE envelope (
	id       INTEGER PRIMARY KEY,
	key      BLOB NOT NULL,
	signer   TEXT NOT NULL,
	raw      BLOB NOT NULL,  -- as it came
	pruned   BLOB,          -- digest of raw, where retention has deleted that
	spki     BLOB,           -- the public key that verified it, where no certificate did
	subjects TEXT NOT NULL,  -- JSON: digests
	scopes   TEXT NOT NULL,  -- JSON: strings; those of resubmissions are added
	UNIQUE (key, signer)
);

-- The row is the queue: due_at is the time of the next attempt and the end of the lease
-- in one, attempt is the fencing token.
CREATE TABLE delivery (
	id          INTEGER PRIMARY KEY,
	envelope_id INTEGER NOT NULL REFERENCES envelope (id),
	target_id   INTEGER NOT NULL REFERENCES target (id),
	subject     BLOB NOT NULL,       -- empty for a log
	state       TEXT NOT NULL,
	attempt     INTEGER NOT NULL DEFAULT 0,
	sends       INTEGER NOT NULL DEFAULT 0,
	adopted     INTEGER NOT NULL DEFAULT 0,
	due_at      INTEGER,             -- NULL: over, or it waits for a required delivery
	accepted_at INTEGER NOT NULL,
	since       INTEGER NOT NULL,    -- when it was queued, or what it requires was verified
	error       TEXT,                -- JSON: why the last attempt did not succeed
	UNIQUE (envelope_id, target_id, subject)
);
CREATE INDEX delivery_due ON delivery (target_id, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX delivery_doubtful ON delivery (target_id, due_at) WHERE state IN ('sending', 'unknown', 'placed');

CREATE TABLE requirement (
	delivery_id INTEGER NOT NULL REFERENCES delivery (id),
	requires_id INTEGER NOT NULL REFERENCES delivery (id),
	PRIMARY KEY (requires_id, delivery_id)
);
CREATE INDEX requirement_delivery ON requirement (delivery_id);

-- What was written ahead of the send; dropped once verified.
CREATE TABLE intent (
	delivery_id INTEGER PRIMARY KEY REFERENCES delivery (id),
	intent      TEXT NOT NULL -- JSON
);

-- What came of a delivery: large, so apart from the hot row, and kept once.
CREATE TABLE receipt (
	delivery_id INTEGER PRIMARY KEY REFERENCES delivery (id),
	receipt     TEXT,  -- JSON
	entry       TEXT,  -- JSON: the rest of the log entry
	bundle      BLOB   -- the bundle that was found, where it carries another signature
);

-- Transitions after the first, into queued, which the row of the delivery tells.
CREATE TABLE history (
	id          INTEGER PRIMARY KEY,
	delivery_id INTEGER NOT NULL REFERENCES delivery (id),
	attempt     INTEGER NOT NULL,
	from_state  TEXT NOT NULL,
	to_state    TEXT NOT NULL,
	at          INTEGER NOT NULL,
	intent      TEXT,  -- JSON, without the request
	error       TEXT   -- JSON
);
CREATE INDEX history_delivery ON history (delivery_id);

CREATE TABLE outbox (
	seq     INTEGER PRIMARY KEY,
	id      BLOB NOT NULL,
	type    TEXT NOT NULL,
	source  TEXT NOT NULL,
	subject TEXT NOT NULL,
	at      INTEGER NOT NULL,
	data    TEXT NOT NULL
);
-- An EntryQueued is unique among the events of its envelope: with an index of all ids, which come
-- at random places, every accept would write another page.
CREATE UNIQUE INDEX outbox_id ON outbox (id) WHERE type <> 'dev.lodge.EntryQueued.v1';

-- The local leaf index: complete for [first, size) of each log.
CREATE TABLE leaf_range (
	id    INTEGER PRIMARY KEY,
	log   TEXT NOT NULL UNIQUE,    -- log id, hex
	first INTEGER NOT NULL,
	size  INTEGER NOT NULL
);
CREATE TABLE leaf (
	log  INTEGER NOT NULL REFERENCES leaf_range (id),
	hash BLOB NOT NULL,
	idx  INTEGER NOT NULL,
	PRIMARY KEY (log, hash, idx)
) WITHOUT ROWID;

-- Work that must have one owner. The term grows with each owner and is the fencing token.
CREATE TABLE lease (
	name       TEXT PRIMARY KEY,
	holder     TEXT NOT NULL,    -- for people
	term       INTEGER NOT NULL,
	expires_at INTEGER NOT NULL  -- 0: released
);

-- +goose Down
DROP TABLE lease;
DROP TABLE leaf;
DROP TABLE leaf_range;
DROP TABLE outbox;
DROP TABLE history;
DROP TABLE receipt;
DROP TABLE intent;
DROP TABLE requirement;
DROP TABLE delivery;
DROP TABLE envelope;
DROP TABLE target;
