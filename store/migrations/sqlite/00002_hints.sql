-- +goose Up
-- What the events of an envelope carry of its hints. Rows never change, so an event stays as
-- it was; where the hints do (a submitter gave scopes, a new extractor), there is one more.
CREATE TABLE hint (
	envelope_id INTEGER NOT NULL REFERENCES envelope (id),
	number      INTEGER NOT NULL,
	document    TEXT NOT NULL, -- JSON
	PRIMARY KEY (envelope_id, number)
);
ALTER TABLE envelope ADD COLUMN hint INTEGER NOT NULL DEFAULT 0;      -- number of the hints in effect; 0: nothing was taken out
ALTER TABLE envelope ADD COLUMN extractor TEXT NOT NULL DEFAULT '';   -- version of what took the hints out
ALTER TABLE envelope ADD COLUMN narrowed INTEGER NOT NULL DEFAULT 0;  -- the first submitter gave scopes: the derived ones are not in effect

-- All scopes of an envelope, derived and given: what is there about a CVE, and what would
-- a policy have matched.
CREATE TABLE scope (
	scope       TEXT NOT NULL,
	envelope_id INTEGER NOT NULL REFERENCES envelope (id),
	effective   INTEGER NOT NULL,
	PRIMARY KEY (scope, envelope_id)
) WITHOUT ROWID;

ALTER TABLE outbox ADD COLUMN envelope_id INTEGER; -- NULL: it is about no envelope
ALTER TABLE outbox ADD COLUMN hint INTEGER;        -- of the envelope when it happened
CREATE UNIQUE INDEX outbox_envelope ON outbox (envelope_id, id) WHERE envelope_id IS NOT NULL;

-- +goose Down
DROP INDEX outbox_envelope;
ALTER TABLE outbox DROP COLUMN hint;
ALTER TABLE outbox DROP COLUMN envelope_id;
DROP TABLE scope;
ALTER TABLE envelope DROP COLUMN narrowed;
ALTER TABLE envelope DROP COLUMN extractor;
ALTER TABLE envelope DROP COLUMN hint;
DROP TABLE hint;
