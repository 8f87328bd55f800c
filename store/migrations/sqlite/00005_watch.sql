-- +goose Up
-- What is followed: one row for each shard of a log. Times are microseconds since 1970, UTC.
CREATE TABLE shard (
	id          INTEGER PRIMARY KEY,
	target      TEXT NOT NULL,                -- address of the log
	log         TEXT NOT NULL,                -- log id, hex
	origin      TEXT NOT NULL,
	url         TEXT NOT NULL,                -- where it is read
	size        INTEGER NOT NULL DEFAULT -1,  -- of the newest checkpoint that is relied on; -1: none yet
	root        BLOB,
	since       INTEGER,                      -- when that was first seen
	looked_at   INTEGER,                      -- when the log last answered with one that is in order
	first       INTEGER NOT NULL DEFAULT 0,   -- leaves below were there before it was followed, and are not read
	next        INTEGER NOT NULL DEFAULT 0,   -- all leaves from first on and below were read
	unsearched  INTEGER NOT NULL DEFAULT 0,   -- of them, those of a kind that is not searched
	speed       REAL NOT NULL DEFAULT 0,      -- leaves a second
	last_event  INTEGER NOT NULL DEFAULT -1,  -- sequence up to which entries of our own are known; -1: nothing is
	closed      INTEGER NOT NULL DEFAULT 0,
	trusting    INTEGER NOT NULL DEFAULT 0,   -- an operator takes what it serves next for its tree
	anchored_at INTEGER NOT NULL DEFAULT 0,   -- receipts from before are of a tree that was given up
	checked_at  INTEGER,                       -- when all receipts and the quarantine were last gone over
	alarm       TEXT NOT NULL DEFAULT '',
	alarm_words TEXT NOT NULL DEFAULT '',
	alarm_since INTEGER,
	UNIQUE (target, log, origin)
);

-- Every checkpoint that was relied on.
CREATE TABLE checkpoint (
	shard INTEGER NOT NULL REFERENCES shard (id),
	size  INTEGER NOT NULL,
	root  BLOB NOT NULL,
	note  TEXT NOT NULL,   -- the signed note
	at    INTEGER NOT NULL,
	PRIMARY KEY (shard, size, root)
);

CREATE TABLE divergence (
	id         INTEGER PRIMARY KEY,
	shard      INTEGER NOT NULL REFERENCES shard (id),
	older_size INTEGER NOT NULL,
	older_root BLOB NOT NULL,
	newer_size INTEGER NOT NULL,
	newer_root BLOB NOT NULL,
	view       TEXT NOT NULL,  -- where the newer one was seen
	proof      TEXT NOT NULL,  -- JSON, with both signed notes
	at         INTEGER NOT NULL,
	resumed_at INTEGER,
	UNIQUE (shard, older_size, older_root, newer_size, newer_root)
);

-- Leaves that could not be read or proven, and those that are proven to be in the tree and
-- can't be told what they are.
CREATE TABLE quarantine (
	shard INTEGER NOT NULL REFERENCES shard (id),
	idx   INTEGER NOT NULL,
	proven INTEGER NOT NULL,
	words TEXT NOT NULL,
	at    INTEGER NOT NULL,
	PRIMARY KEY (shard, idx)
);

-- Leaves of our own, where they were seen; and digests of what we have accepted (idx -1).
CREATE TABLE own (
	id     INTEGER PRIMARY KEY,
	shard  INTEGER NOT NULL REFERENCES shard (id),
	hash   BLOB NOT NULL,
	idx    INTEGER NOT NULL,
	key    BLOB NOT NULL,
	signer TEXT NOT NULL,
	UNIQUE (shard, hash, idx, key, signer)
);

-- +goose Down
DROP TABLE own;
DROP TABLE quarantine;
DROP TABLE divergence;
DROP TABLE checkpoint;
DROP TABLE shard;
