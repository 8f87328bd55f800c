-- +goose Up
CREATE INDEX requirement_delivery ON requirement (delivery_id);
DROP INDEX outbox_subject; -- nothing asks by subject

-- Work that must have one owner. The term grows with each owner and is the fencing token.
CREATE TABLE lease (
	name       TEXT PRIMARY KEY,
	holder     TEXT NOT NULL,    -- for people
	term       INTEGER NOT NULL,
	expires_at INTEGER NOT NULL  -- 0: released
);

-- +goose Down
DROP TABLE lease;
CREATE INDEX outbox_subject ON outbox (subject);
DROP INDEX requirement_delivery;
