-- +goose Up
-- How far each consumer of the outbox has come.
CREATE TABLE cursor (
	name     TEXT PRIMARY KEY,
	sequence BIGINT NOT NULL,          -- of the last event that it is done with
	state    BYTEA NOT NULL,           -- the consumer's own
	disabled TEXT NOT NULL DEFAULT ''  -- why; '' while it takes events
);

-- Events before the cursor that a sink could not take.
CREATE TABLE undelivered (
	cursor   TEXT NOT NULL,    -- its name
	seq      BIGINT NOT NULL,  -- of the event
	subject  TEXT NOT NULL,
	attempts BIGINT NOT NULL,
	since    BIGINT NOT NULL,  -- the first attempt
	due_at   BIGINT,           -- NULL: given up
	error    TEXT NOT NULL,
	PRIMARY KEY (cursor, seq)
);

-- +goose Down
DROP TABLE undelivered, cursor;
