-- +goose Up
-- Policies, applied or deleted.
CREATE TABLE policy (
	name     TEXT PRIMARY KEY,
	number   INTEGER NOT NULL UNIQUE, -- of the last change, growing with each: what a reader has not seen yet
	revision BLOB NOT NULL,
	body     TEXT,                    -- JSON; NULL: it was deleted
	at       INTEGER NOT NULL
);

-- The last known word of each author on a vulnerability in a product.
CREATE TABLE claim (
	id            TEXT PRIMARY KEY,   -- hex digest of the next three, which may be long
	vuln          TEXT NOT NULL,
	product       TEXT NOT NULL,
	author        TEXT NOT NULL,
	status        TEXT NOT NULL,
	justification TEXT NOT NULL,
	issued        INTEGER NOT NULL,
	revision      TEXT NOT NULL,      -- of the document, as the author counts
	about         BLOB NOT NULL,      -- digest of the set of artifacts that the document is about
	key           BLOB NOT NULL       -- of the envelope that it is in
) WITHOUT ROWID;

-- What the claims of each envelope changed when they came.
CREATE TABLE claim_move (
	envelope_id   INTEGER NOT NULL REFERENCES envelope (id),
	claim_id      TEXT NOT NULL,
	vuln          TEXT NOT NULL,
	product       TEXT NOT NULL,
	move          TEXT NOT NULL,
	from_status   TEXT NOT NULL,      -- '' where nothing was known
	status        TEXT NOT NULL,
	justification TEXT NOT NULL,
	PRIMARY KEY (envelope_id, claim_id)
) WITHOUT ROWID;

-- +goose Down
DROP TABLE claim_move;
DROP TABLE claim;
DROP TABLE policy;
