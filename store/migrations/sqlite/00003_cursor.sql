-- +goose Up
-- How far each consumer of the outbox has come.
CREATE TABLE cursor (
	name     TEXT PRIMARY KEY,
	sequence INTEGER NOT NULL,         -- of the last event that it is done with
	state    BLOB NOT NULL,            -- the consumer's own
	disabled TEXT NOT NULL DEFAULT ''  -- why; '' while it takes events
);

-- Events before the cursor that a sink could not take.
CREATE TABLE undelivered (
	cursor   TEXT NOT NULL,     -- its name
	seq      INTEGER NOT NULL,  -- of the event
	subject  TEXT NOT NULL,
	attempts INTEGER NOT NULL,
	since    INTEGER NOT NULL,  -- the first attempt
	due_at   INTEGER,           -- NULL: given up
	error    TEXT NOT NULL,
	PRIMARY KEY (cursor, seq)
) WITHOUT ROWID;

-- +goose Down
DROP TABLE undelivered;
DROP TABLE cursor;
