-- How many events parts of the log have, and the sums of their hashes: see eventlog/digests.py.

-- The first 8 bytes of the SHA-256 of an event's id. Ids are ASCII, without backslashes. Of immutable
-- expressions only, so that queries compute it in place: a call takes ten times as long.
CREATE FUNCTION event_hash(order_id text, version integer) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ('x' || encode(substr(sha256((order_id || '@' || version::text)::bytea), 1, 8), 'hex'))::bit(64)::bigint;

-- The first 7 hexadecimal digits of the SHA-256 of an order's id.
CREATE FUNCTION order_hash(order_id text) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ('x' || encode(substr(sha256(order_id::bytea), 1, 4), 'hex'))::bit(28)::integer;

-- The orders of a slice. Only an opening adds to it.
CREATE INDEX order_events_by_order_hash ON order_events (order_hash(order_id)) WHERE version = 1;

-- Block `number` of a level has the events `number` * n + 1 to (`number` + 1) * n in commit order, with
-- n = 4,096 * 16 ^ level. All of them are settled, so that neither they nor these rows ever change.
CREATE TABLE digest_blocks (
    level          smallint NOT NULL,
    number         bigint   NOT NULL,
    transaction_id xid8     NOT NULL,  -- of its last event
    position       bigint   NOT NULL,
    PRIMARY KEY (level, number)
);
CREATE INDEX digest_blocks_in_commit_order ON digest_blocks (level, transaction_id, position);

-- Of each block, by type of event and by slice: the first digit of the order's hash, or the first two
-- from level 1 on. Counts only if the row of its block is there, which is written last.
CREATE TABLE digest_sums (
    level  smallint NOT NULL,
    number bigint   NOT NULL,
    slice  smallint NOT NULL,
    type   text     NOT NULL,
    events bigint   NOT NULL,
    sum    numeric  NOT NULL,
    PRIMARY KEY (level, number, slice, type)
);
