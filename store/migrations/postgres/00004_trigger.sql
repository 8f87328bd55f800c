-- +goose Up
-- Policies, applied or deleted.
CREATE TABLE policy (
	name     TEXT PRIMARY KEY,
	number   BIGINT NOT NULL UNIQUE, -- of the last change, growing with each: what a reader has not seen yet
	revision BYTEA NOT NULL,
	body     TEXT,                   -- JSON; NULL: it was deleted
	at       BIGINT NOT NULL
);

-- The last known word of each author on a vulnerability in a product.
CREATE TABLE claim (
	id            TEXT PRIMARY KEY,  -- hex digest of the next three, which may be long
	vuln          TEXT NOT NULL,
	product       TEXT NOT NULL,
	author        TEXT NOT NULL,
	status        TEXT NOT NULL,
	justification TEXT NOT NULL,
	issued        BIGINT NOT NULL,
	revision      TEXT NOT NULL,     -- of the document, as the author counts
	about         BYTEA NOT NULL,    -- digest of the set of artifacts that the document is about
	key           BYTEA NOT NULL     -- of the envelope that it is in
);

-- What the claims of each envelope changed when they came.
CREATE TABLE claim_move (
	envelope_id   BIGINT NOT NULL REFERENCES envelope (id),
	claim_id      TEXT NOT NULL,
	vuln          TEXT NOT NULL,
	product       TEXT NOT NULL,
	move          TEXT NOT NULL,
	from_status   TEXT NOT NULL,     -- '' where nothing was known
	status        TEXT NOT NULL,
	justification TEXT NOT NULL,
	PRIMARY KEY (envelope_id, claim_id)
);

-- +goose Down
DROP TABLE claim_move, claim, policy;
