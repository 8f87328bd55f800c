-- +goose Up
-- The number says that the tables are those of the same number for SQLite.
-- What is followed: one row for each shard of a log. Times are microseconds since 1970, UTC.
CREATE TABLE shard (
	id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	target      TEXT NOT NULL,                -- address of the log
	log         TEXT NOT NULL,                -- log id, hex
	origin      TEXT NOT NULL,
	url         TEXT NOT NULL,                -- where it is read
	size        BIGINT NOT NULL DEFAULT -1,  -- of the newest checkpoint that is relied on; -1: none yet
	root        BYTEA,
	since       BIGINT,                      -- when that was first seen
	looked_at   BIGINT,                      -- when the log last answered with one that is in order
	first       BIGINT NOT NULL DEFAULT 0,   -- leaves below were there before it was followed, and are not read
	next        BIGINT NOT NULL DEFAULT 0,   -- all leaves from first on and below were read
	unsearched  BIGINT NOT NULL DEFAULT 0,   -- of them, those of a kind that is not searched
	speed       DOUBLE PRECISION NOT NULL DEFAULT 0,      -- leaves a second
	last_event  BIGINT NOT NULL DEFAULT -1,  -- sequence up to which entries of our own are known; -1: nothing is
	closed      BOOLEAN NOT NULL DEFAULT FALSE,
	trusting    BOOLEAN NOT NULL DEFAULT FALSE,   -- an operator takes what it serves next for its tree
	anchored_at BIGINT NOT NULL DEFAULT 0,   -- receipts from before are of a tree that was given up
	checked_at  BIGINT,                       -- when all receipts and the quarantine were last gone over
	alarm       TEXT NOT NULL DEFAULT '',
	alarm_words TEXT NOT NULL DEFAULT '',
	alarm_since BIGINT,
	UNIQUE (target, log, origin)
);

-- Every checkpoint that was relied on.
CREATE TABLE checkpoint (
	shard BIGINT NOT NULL REFERENCES shard (id),
	size  BIGINT NOT NULL,
	root  BYTEA NOT NULL,
	note  TEXT NOT NULL,   -- the signed note
	at    BIGINT NOT NULL,
	PRIMARY KEY (shard, size, root)
);

CREATE TABLE divergence (
	id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	shard      BIGINT NOT NULL REFERENCES shard (id),
	older_size BIGINT NOT NULL,
	older_root BYTEA NOT NULL,
	newer_size BIGINT NOT NULL,
	newer_root BYTEA NOT NULL,
	view       TEXT NOT NULL,  -- where the newer one was seen
	proof      TEXT NOT NULL,  -- JSON, with both signed notes
	at         BIGINT NOT NULL,
	resumed_at BIGINT,
	UNIQUE (shard, older_size, older_root, newer_size, newer_root)
);

-- Leaves that could not be read or proven, and those that are proven to be in the tree and
-- can't be told what they are.
CREATE TABLE quarantine (
	shard BIGINT NOT NULL REFERENCES shard (id),
	idx   BIGINT NOT NULL,
	proven BOOLEAN NOT NULL,
	words TEXT NOT NULL,
	at    BIGINT NOT NULL,
	PRIMARY KEY (shard, idx)
);

-- Leaves of our own, where they were seen; and digests of what we have accepted (idx -1).
CREATE TABLE own (
	id     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	shard  BIGINT NOT NULL REFERENCES shard (id),
	hash   BYTEA NOT NULL,
	idx    BIGINT NOT NULL,
	key    BYTEA NOT NULL,
	signer TEXT NOT NULL,
	UNIQUE (shard, hash, idx, key, signer)
);

-- +goose Down
DROP TABLE own, quarantine, divergence, checkpoint, shard;
