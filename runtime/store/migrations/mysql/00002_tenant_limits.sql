-- +goose Up
-- retention is how many milliseconds messages are kept, NULL: for ever. limits is JSON, empty: the defaults.
-- MySQL has no ADD COLUMN IF NOT EXISTS, and this may be run again after a kill half-way.
SET @alter = IF((SELECT COUNT(*) FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'tenants' AND column_name = 'limits') = 0,
    'ALTER TABLE tenants ADD COLUMN retention BIGINT, ADD COLUMN limits VARCHAR(1024) NOT NULL DEFAULT ''''', 'DO 0');
PREPARE migration FROM @alter;
EXECUTE migration;
DEALLOCATE PREPARE migration;
