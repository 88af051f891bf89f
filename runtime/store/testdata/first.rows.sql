INSERT INTO kms_schema (version_id, is_applied) VALUES (0, TRUE), (1, TRUE);
INSERT INTO tenants (id, name, state, created_at) VALUES ('demo', 'デモ', 'active', 1700000000000);
INSERT INTO api_keys (id, tenant, label, hash, created_at) VALUES ('k1', 'demo', 'first', '0000000000000000000000000000000000000000000000000000000000000001', 1700000000000);
INSERT INTO users (tenant, user, name, created_at) VALUES ('demo', 'u', '勇者', 1700000000000);
INSERT INTO tokens (hash, tenant, user, created_at) VALUES ('0000000000000000000000000000000000000000000000000000000000000002', 'demo', 'u', 1700000000000);
INSERT INTO channels (pk, tenant, id, live, kind, history, name, epoch, head, first, moved_at, created_at)
    VALUES (7, 'demo', 'guild:1', 1, 'guild', 'log', 'ギルド', 'epoch', 2, 1, 1700000000000, 1700000000000);
INSERT INTO members (channel_pk, user, tenant, created_at) VALUES (7, 'u', 'demo', 1700000000000);
INSERT INTO messages (channel_pk, seq, id, user, kind, at, body)
    VALUES (7, 1, '01ARZ3NDEKTSV4RRFFQ69G5FAV', 'u', 'say', 1700000000000, '{}'),
    (7, 2, '01ARZ3NDEKTSV4RRFFQ69G5FAW', 'u', 'say', 1700000000001, '{"text":"やあ"}');
INSERT INTO ng_lists (tenant, name, revision, words, settings, editor, edit_until) VALUES ('demo', 'default', 1, 1, '', '', 0);
INSERT INTO ng_entries (tenant, list, word, added, removed, kind, action, mode) VALUES ('demo', 'default', 'ばか', 1, 0, 'word', 'mask', 'auto');
INSERT INTO ng_revisions (tenant, list, revision, author, message, at, added, removed, settings)
    VALUES ('demo', 'default', 1, 'ann', '', 1700000000000, 1, 0, '');
UPDATE changes_head SET epoch = 'changes', n = 3 WHERE id = 1;
INSERT INTO changes (n, tenant, kind, subject, detail, at) VALUES (3, 'demo', 'ngword', 'default', '', 1700000000000);
INSERT INTO versions (name, state, build, message, updated_at) VALUES ('1.0', 'live', '0000000000000000000000000000000000000000000000000000000000000003', '', 1700000000000);
INSERT INTO builds (digest, label, version, contract, schema_min, schema_max, size, created_at, created_by)
    VALUES ('0000000000000000000000000000000000000000000000000000000000000003', 'first', '1.0', 1, 1, 1, 1000, 1700000000000, 'ann');
INSERT INTO releases (version, build, previous, kind, state, who, message, node, error, started_at, steps)
    VALUES ('1.0', '0000000000000000000000000000000000000000000000000000000000000003', '', 'deploy', 'done', 'ann', '', 'n1', '', 1700000000000,
    '[{"name":"store","state":"done","at":"2023-11-14T22:13:20Z","took":1000000}]');
INSERT INTO leases (name, holder, purpose, expires) VALUES ('release/1.0', 'n1', 'deploy', 1700000000000);
INSERT INTO links (name, kind, servers, tls, tls_ca, password, secret, irc_channels, max_line, state, node, created_at)
    VALUES ('main', 'inspircd', '["127.0.0.1:6667"]', 0, '', '', 'secret', 64, 4096, 'active', 'n1', 1700000000000);
INSERT INTO audit (at, who, action, subject, message, result, node) VALUES (1700000000000, 'ann', 'deploy', '1.0', '', 'done', 'n1');
INSERT INTO nodes (id, host, seen_at) VALUES ('n1', 'host', 1700000000000);
INSERT INTO tenant_seen (version, tenant, day) VALUES ('1.0', 'demo', 1699920000000);
