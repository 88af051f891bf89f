-- +goose Up
CREATE TABLE tenants (
    id          TEXT PRIMARY KEY NOT NULL,
    name        TEXT NOT NULL,
    state       TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    min_version TEXT
) WITHOUT ROWID;

CREATE TABLE api_keys (
    id         TEXT PRIMARY KEY NOT NULL,
    tenant     TEXT NOT NULL,
    label      TEXT NOT NULL,
    hash       TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    last_used  INTEGER,
    revoked_at INTEGER
) WITHOUT ROWID;
CREATE INDEX api_keys_tenant ON api_keys (tenant);

CREATE TABLE users (
    tenant     TEXT NOT NULL,
    user       TEXT NOT NULL,
    name       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, user)
) WITHOUT ROWID;

CREATE TABLE tokens (
    hash       TEXT PRIMARY KEY NOT NULL,
    tenant     TEXT NOT NULL,
    user       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
) WITHOUT ROWID;
CREATE INDEX tokens_user ON tokens (tenant, user);

-- live is 1, or NULL once deleted: deleted rows stay beside a live one of the same id until their log is purged.
CREATE TABLE channels (
    pk         INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant     TEXT NOT NULL,
    id         TEXT NOT NULL,
    live       INTEGER DEFAULT 1,
    kind       TEXT NOT NULL,
    history    TEXT NOT NULL,
    name       TEXT NOT NULL,
    epoch      TEXT NOT NULL,
    head       INTEGER NOT NULL DEFAULT 0,
    first      INTEGER NOT NULL DEFAULT 1,
    moved_at   INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    deleted_at INTEGER,
    UNIQUE (tenant, id, live)
);
CREATE INDEX channels_moved ON channels (moved_at);

CREATE TABLE members (
    channel_pk INTEGER NOT NULL,
    user       TEXT NOT NULL,
    tenant     TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (channel_pk, user)
) WITHOUT ROWID;
CREATE INDEX members_user ON members (tenant, user);

-- The message log, written in groups and read by seq. Appended in the order of commits: clustering it on (channel_pk, seq)
-- was measured a third slower.
CREATE TABLE messages (
    n          INTEGER PRIMARY KEY AUTOINCREMENT,
    channel_pk INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    id         TEXT NOT NULL,
    user       TEXT NOT NULL,
    kind       TEXT NOT NULL,
    target     TEXT,
    at         INTEGER NOT NULL,
    body       BLOB NOT NULL,
    UNIQUE (id, channel_pk, user),
    UNIQUE (channel_pk, seq)
);

-- A large edit is written in small transactions by one editor at a time; its rows carry the next revision, which nobody reads
-- before the last transaction raises ng_lists.revision. settings is empty while nobody has changed them.
CREATE TABLE ng_lists (
    tenant     TEXT NOT NULL,
    name       TEXT NOT NULL,
    revision   INTEGER NOT NULL,
    words      INTEGER NOT NULL,
    settings   TEXT NOT NULL,
    editor     TEXT NOT NULL,
    edit_until INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
) WITHOUT ROWID;

-- An entry stands in the revisions from added up to the one before removed; removed is 0 while it is still there.
CREATE TABLE ng_entries (
    tenant  TEXT NOT NULL,
    list    TEXT NOT NULL,
    word    TEXT NOT NULL,
    added   INTEGER NOT NULL,
    removed INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    action  TEXT NOT NULL,
    mode    TEXT NOT NULL,
    PRIMARY KEY (tenant, list, word, added)
) WITHOUT ROWID;

-- added and removed count entries; settings is empty where the revision did not change them.
CREATE TABLE ng_revisions (
    tenant   TEXT NOT NULL,
    list     TEXT NOT NULL,
    revision INTEGER NOT NULL,
    author   TEXT NOT NULL,
    message  TEXT NOT NULL,
    at       INTEGER NOT NULL,
    added    INTEGER NOT NULL,
    removed  INTEGER NOT NULL,
    settings TEXT NOT NULL,
    PRIMARY KEY (tenant, list, revision)
);

-- One row: whoever appends to changes holds it until the commit, so numbers appear in order and without holes.
CREATE TABLE changes_head (
    id    INTEGER PRIMARY KEY,
    epoch TEXT NOT NULL,
    n     INTEGER NOT NULL
);
INSERT INTO changes_head (id, epoch, n) VALUES (1, lower(hex(randomblob(8))), 0);

CREATE TABLE changes (
    n       INTEGER PRIMARY KEY,
    tenant  TEXT NOT NULL,
    kind    TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail  TEXT NOT NULL,
    at      INTEGER NOT NULL
);

CREATE TABLE versions (
    name       TEXT PRIMARY KEY NOT NULL,
    state      TEXT NOT NULL,
    build      TEXT NOT NULL,
    message    TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    deprecated INTEGER,
    sunset     INTEGER,
    notice     TEXT
) WITHOUT ROWID;

CREATE TABLE builds (
    digest     TEXT PRIMARY KEY NOT NULL,
    label      TEXT NOT NULL,
    version    TEXT NOT NULL,
    contract   INTEGER NOT NULL,
    schema_min INTEGER NOT NULL,
    schema_max INTEGER NOT NULL,
    size       INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE releases (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    version     TEXT NOT NULL,
    build       TEXT NOT NULL,
    previous    TEXT NOT NULL,
    kind        TEXT NOT NULL,
    state       TEXT NOT NULL,
    who         TEXT NOT NULL,
    message     TEXT NOT NULL,
    node        TEXT NOT NULL,
    error       TEXT NOT NULL,
    started_at  INTEGER NOT NULL,
    finished_at INTEGER,
    steps       TEXT NOT NULL
);
CREATE INDEX releases_version ON releases (version, id);

CREATE TABLE leases (
    name    TEXT PRIMARY KEY NOT NULL,
    holder  TEXT NOT NULL,
    purpose TEXT NOT NULL,
    expires INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE links (
    name         TEXT PRIMARY KEY NOT NULL,
    kind         TEXT NOT NULL,
    servers      TEXT NOT NULL,
    tls          INTEGER NOT NULL,
    tls_ca       TEXT NOT NULL,
    password     TEXT NOT NULL,
    secret       BLOB NOT NULL,
    irc_channels INTEGER NOT NULL,
    max_line     INTEGER NOT NULL,
    state        TEXT NOT NULL,
    node         TEXT NOT NULL,
    created_at   INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE audit (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    who     TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    message TEXT NOT NULL,
    result  TEXT NOT NULL,
    node    TEXT NOT NULL
);
CREATE INDEX audit_subject ON audit (subject, id);

CREATE TABLE nodes (
    id      TEXT PRIMARY KEY NOT NULL,
    host    TEXT NOT NULL,
    seen_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE tenant_seen (
    version TEXT NOT NULL,
    tenant  TEXT NOT NULL,
    day     INTEGER NOT NULL,
    PRIMARY KEY (version, tenant)
) WITHOUT ROWID;
