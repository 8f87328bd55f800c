-- +goose Up
-- RFC 3161 timestamps over the signature, taken when the envelope was accepted. JSON: base64.
ALTER TABLE envelope ADD COLUMN timestamps TEXT NOT NULL DEFAULT 'null';

-- +goose Down
ALTER TABLE envelope DROP COLUMN timestamps;
