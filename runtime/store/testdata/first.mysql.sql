CREATE TABLE kms_schema (
    id bigint(20) unsigned NOT NULL AUTO_INCREMENT,
    version_id bigint NOT NULL,
    is_applied boolean NOT NULL,
    tstamp datetime NULL default CURRENT_TIMESTAMP,
    PRIMARY KEY(id)
);
CREATE TABLE IF NOT EXISTS tenants (
    id         VARCHAR(64) NOT NULL PRIMARY KEY,
    name       VARCHAR(64) NOT NULL,
    state      VARCHAR(16) NOT NULL,
    created_at BIGINT NOT NULL,
    min_version VARCHAR(64)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS api_keys (
    id         VARCHAR(64) NOT NULL PRIMARY KEY,
    tenant     VARCHAR(64) NOT NULL,
    label      VARCHAR(64) NOT NULL,
    hash       CHAR(64) NOT NULL,
    created_at BIGINT NOT NULL,
    last_used  BIGINT,
    revoked_at BIGINT,
    UNIQUE KEY api_keys_hash (hash),
    KEY api_keys_tenant (tenant)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS users (
    tenant     VARCHAR(64) NOT NULL,
    user       VARCHAR(64) NOT NULL,
    name       VARCHAR(64) NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, user)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS tokens (
    hash       CHAR(64) NOT NULL PRIMARY KEY,
    tenant     VARCHAR(64) NOT NULL,
    user       VARCHAR(64) NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    KEY tokens_user (tenant, user)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS channels (
    pk         BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    tenant     VARCHAR(64) NOT NULL,
    id         VARCHAR(64) NOT NULL,
    live       TINYINT DEFAULT 1,
    kind       VARCHAR(16) NOT NULL,
    history    VARCHAR(16) NOT NULL,
    name       VARCHAR(64) NOT NULL,
    epoch      VARCHAR(32) NOT NULL,
    head       BIGINT NOT NULL DEFAULT 0,
    first      BIGINT NOT NULL DEFAULT 1,
    moved_at   BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    deleted_at BIGINT,
    UNIQUE KEY channels_live (tenant, id, live),
    KEY channels_moved (moved_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS members (
    channel_pk BIGINT NOT NULL,
    user       VARCHAR(64) NOT NULL,
    tenant     VARCHAR(64) NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (channel_pk, user),
    KEY members_user (tenant, user)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS messages (
    n          BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    channel_pk BIGINT NOT NULL,
    seq        BIGINT NOT NULL,
    id         CHAR(26) NOT NULL,
    user       VARCHAR(64) NOT NULL,
    kind       VARCHAR(16) NOT NULL,
    target     CHAR(26),
    at         BIGINT NOT NULL,
    body       MEDIUMBLOB NOT NULL,
    UNIQUE KEY messages_id (id, channel_pk, user),
    UNIQUE KEY messages_seq (channel_pk, seq)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS ng_lists (
    tenant     VARCHAR(64) NOT NULL,
    name       VARCHAR(64) NOT NULL,
    revision   BIGINT NOT NULL,
    words      INT NOT NULL,
    settings   TEXT NOT NULL,
    editor     VARCHAR(64) NOT NULL,
    edit_until BIGINT NOT NULL,
    PRIMARY KEY (tenant, name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS ng_entries (
    tenant  VARCHAR(64) NOT NULL,
    list    VARCHAR(64) NOT NULL,
    word    VARCHAR(128) NOT NULL,
    added   BIGINT NOT NULL,
    removed BIGINT NOT NULL,
    kind    VARCHAR(16) NOT NULL,
    action  VARCHAR(16) NOT NULL,
    mode    VARCHAR(16) NOT NULL,
    PRIMARY KEY (tenant, list, word, added)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS ng_revisions (
    tenant   VARCHAR(64) NOT NULL,
    list     VARCHAR(64) NOT NULL,
    revision BIGINT NOT NULL,
    author   VARCHAR(255) NOT NULL,
    message  TEXT NOT NULL,
    at       BIGINT NOT NULL,
    added    INT NOT NULL,
    removed  INT NOT NULL,
    settings TEXT NOT NULL,
    PRIMARY KEY (tenant, list, revision)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS changes_head (
    id    TINYINT NOT NULL PRIMARY KEY,
    epoch VARCHAR(32) NOT NULL,
    n     BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
INSERT INTO changes_head (id, epoch, n) VALUES (1, LEFT(MD5(CONCAT(UUID(), RAND())), 16), 0)
    ON DUPLICATE KEY UPDATE n = n;

CREATE TABLE IF NOT EXISTS changes (
    n       BIGINT NOT NULL PRIMARY KEY,
    tenant  VARCHAR(64) NOT NULL,
    kind    VARCHAR(16) NOT NULL,
    subject VARCHAR(64) NOT NULL,
    detail  VARCHAR(255) NOT NULL,
    at      BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS versions (
    name       VARCHAR(64) NOT NULL PRIMARY KEY,
    state      VARCHAR(16) NOT NULL,
    build      VARCHAR(64) NOT NULL,
    message    TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    deprecated BIGINT,
    sunset     BIGINT,
    notice     TEXT
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS builds (
    digest     CHAR(64) NOT NULL PRIMARY KEY,
    label      VARCHAR(255) NOT NULL,
    version    VARCHAR(64) NOT NULL,
    contract   INT NOT NULL,
    schema_min INT NOT NULL,
    schema_max INT NOT NULL,
    size       BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by VARCHAR(255) NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS releases (
    id          BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    version     VARCHAR(64) NOT NULL,
    build       VARCHAR(64) NOT NULL,
    previous    VARCHAR(64) NOT NULL,
    kind        VARCHAR(16) NOT NULL,
    state       VARCHAR(16) NOT NULL,
    who         VARCHAR(255) NOT NULL,
    message     TEXT NOT NULL,
    node        VARCHAR(64) NOT NULL,
    error       TEXT NOT NULL,
    started_at  BIGINT NOT NULL,
    finished_at BIGINT,
    steps       MEDIUMTEXT NOT NULL,
    KEY releases_version (version, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS leases (
    name    VARCHAR(128) NOT NULL PRIMARY KEY,
    holder  VARCHAR(255) NOT NULL,
    purpose VARCHAR(255) NOT NULL,
    expires BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS links (
    name         VARCHAR(64) NOT NULL PRIMARY KEY,
    kind         VARCHAR(16) NOT NULL,
    servers      TEXT NOT NULL,
    tls          TINYINT NOT NULL,
    tls_ca       TEXT NOT NULL,
    password     VARCHAR(255) NOT NULL,
    secret       VARBINARY(255) NOT NULL,
    irc_channels INT NOT NULL,
    max_line     INT NOT NULL,
    state        VARCHAR(16) NOT NULL,
    node         VARCHAR(64) NOT NULL,
    created_at   BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS audit (
    id      BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    at      BIGINT NOT NULL,
    who     VARCHAR(255) NOT NULL,
    action  VARCHAR(64) NOT NULL,
    subject VARCHAR(255) NOT NULL,
    message TEXT NOT NULL,
    result  TEXT NOT NULL,
    node    VARCHAR(64) NOT NULL,
    KEY audit_subject (subject, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS nodes (
    id      VARCHAR(64) NOT NULL PRIMARY KEY,
    host    VARCHAR(255) NOT NULL,
    seen_at BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS tenant_seen (
    version VARCHAR(64) NOT NULL,
    tenant  VARCHAR(64) NOT NULL,
    day     BIGINT NOT NULL,
    PRIMARY KEY (version, tenant)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
