-- +goose Up
-- What the events of an envelope carry of its hints. Rows never change, so an event stays as
-- it was; where the hints do (a submitter gave scopes, a new extractor), there is one more.
CREATE TABLE hint (
	envelope_id BIGINT NOT NULL REFERENCES envelope (id),
	number      BIGINT NOT NULL,
	document    TEXT NOT NULL, -- JSON
	PRIMARY KEY (envelope_id, number)
);
ALTER TABLE envelope
	ADD COLUMN hint BIGINT NOT NULL DEFAULT 0,        -- number of the hints in effect; 0: nothing was taken out
	ADD COLUMN extractor TEXT NOT NULL DEFAULT '',    -- version of what took the hints out
	ADD COLUMN narrowed BOOLEAN NOT NULL DEFAULT FALSE; -- the first submitter gave scopes: the derived ones are not in effect

-- All scopes of an envelope, derived and given: what is there about a CVE, and what would
-- a policy have matched.
CREATE TABLE scope (
	scope       TEXT COLLATE "C" NOT NULL,
	envelope_id BIGINT NOT NULL REFERENCES envelope (id),
	effective   BOOLEAN NOT NULL,
	PRIMARY KEY (scope, envelope_id)
);

ALTER TABLE outbox
	ADD COLUMN envelope_id BIGINT, -- NULL: it is about no envelope
	ADD COLUMN hint BIGINT;        -- of the envelope when it happened
CREATE UNIQUE INDEX outbox_envelope ON outbox (envelope_id, id) WHERE envelope_id IS NOT NULL;

-- +goose Down
DROP INDEX outbox_envelope;
ALTER TABLE outbox DROP COLUMN hint, DROP COLUMN envelope_id;
DROP TABLE scope;
ALTER TABLE envelope DROP COLUMN narrowed, DROP COLUMN extractor, DROP COLUMN hint;
DROP TABLE hint;
