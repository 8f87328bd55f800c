-- +goose Up
-- The number says that the tables are those of the same number for SQLite.
-- Times are microseconds since 1970, UTC. JSON columns hold the root package's types.

CREATE TABLE target (
	id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	kind       TEXT NOT NULL,
	name       TEXT NOT NULL UNIQUE,
	address    TEXT NOT NULL UNIQUE,
	held       TEXT NOT NULL DEFAULT '',  -- code of the reason; '' while it takes deliveries
	held_words TEXT NOT NULL DEFAULT '',
	held_count BIGINT NOT NULL DEFAULT 0 -- how often it was held so far
);

-- Payloads stay apart from the hot row.
CREATE TABLE envelope (
	id       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	key      BYTEA NOT NULL,
	signer   TEXT NOT NULL,
	raw      BYTEA NOT NULL, -- as it came
	pruned   BYTEA,          -- digest of raw, where retention has deleted that
	spki     BYTEA,          -- the public key that verified it, where no certificate did
	subjects TEXT NOT NULL,  -- JSON: digests
	scopes   TEXT NOT NULL,  -- JSON: strings; those of resubmissions are added
	UNIQUE (key, signer)
);

-- The row is the queue: due_at is the time of the next attempt and the end of the lease
-- in one, attempt is the fencing token.
CREATE TABLE delivery (
	id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	envelope_id BIGINT NOT NULL REFERENCES envelope (id),
	target_id   BIGINT NOT NULL REFERENCES target (id),
	subject     BYTEA NOT NULL,       -- empty for a log
	state       TEXT NOT NULL,
	attempt     BIGINT NOT NULL DEFAULT 0,
	sends       BIGINT NOT NULL DEFAULT 0,
	adopted     BOOLEAN NOT NULL DEFAULT FALSE,
	due_at      BIGINT,              -- NULL: over, or it waits for a required delivery
	accepted_at BIGINT NOT NULL,
	since       BIGINT NOT NULL,
	error       TEXT,                -- JSON: why the last attempt did not succeed
	UNIQUE (envelope_id, target_id, subject)
);
CREATE INDEX delivery_due ON delivery (target_id, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX delivery_doubtful ON delivery (target_id, due_at) WHERE state IN ('sending', 'unknown', 'placed');

CREATE TABLE requirement (
	delivery_id BIGINT NOT NULL REFERENCES delivery (id),
	requires_id BIGINT NOT NULL REFERENCES delivery (id),
	PRIMARY KEY (requires_id, delivery_id)
);
CREATE INDEX requirement_delivery ON requirement (delivery_id);

-- What was written ahead of the send; dropped once verified.
CREATE TABLE intent (
	delivery_id BIGINT PRIMARY KEY REFERENCES delivery (id),
	intent      TEXT NOT NULL -- JSON
);

-- What came of a delivery: large, so apart from the hot row, and kept once.
CREATE TABLE receipt (
	delivery_id BIGINT PRIMARY KEY REFERENCES delivery (id),
	receipt     TEXT,  -- JSON
	entry       TEXT,  -- JSON: the rest of the log entry
	bundle      BYTEA -- the bundle that was found, where it carries another signature
);

-- Transitions after the first, into queued, which the row of the delivery tells.
CREATE TABLE history (
	id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	delivery_id BIGINT NOT NULL REFERENCES delivery (id),
	attempt     BIGINT NOT NULL,
	from_state  TEXT NOT NULL,
	to_state    TEXT NOT NULL,
	at          BIGINT NOT NULL,
	intent      TEXT,  -- JSON, without the request
	error       TEXT   -- JSON
);
CREATE INDEX history_delivery ON history (delivery_id);

CREATE TABLE outbox (
	seq     BIGINT PRIMARY KEY, -- in the order of commits
	id      BYTEA NOT NULL,
	type    TEXT NOT NULL,
	source  TEXT NOT NULL,
	subject TEXT NOT NULL,
	at      BIGINT NOT NULL,
	data    TEXT NOT NULL
);
-- An EntryQueued is unique among the events of its envelope: with an index of all ids, which come
-- at random places, every accept would write another page.
CREATE UNIQUE INDEX outbox_id ON outbox (id) WHERE type <> 'dev.lodge.EntryQueued.v1';

-- The local leaf index: complete for [first, size) of each log.
CREATE TABLE leaf_range (
	id    BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	log   TEXT NOT NULL UNIQUE,    -- log id, hex
	first BIGINT NOT NULL,
	size  BIGINT NOT NULL
);
CREATE TABLE leaf (
	log  BIGINT NOT NULL REFERENCES leaf_range (id),
	hash BYTEA NOT NULL,
	idx  BIGINT NOT NULL,
	PRIMARY KEY (log, hash, idx)
);

-- Work that must have one owner. The term grows with each owner and is the fencing token.
CREATE TABLE lease (
	name       TEXT PRIMARY KEY,
	holder     TEXT NOT NULL,   -- for people
	term       BIGINT NOT NULL,
	expires_at BIGINT NOT NULL  -- 0: released
);

-- +goose Down
DROP TABLE lease, leaf, leaf_range, outbox, history, receipt, intent, requirement, delivery, envelope, target;
