-- +goose Up
-- retention is how many milliseconds messages are kept, NULL: for ever. limits is JSON, empty: the defaults.
ALTER TABLE tenants ADD COLUMN retention INTEGER;
ALTER TABLE tenants ADD COLUMN limits TEXT NOT NULL DEFAULT '';
