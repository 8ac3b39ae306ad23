-- How far each relay has come in publishing events to its broker. The relay itself writes it.
CREATE TABLE relay_cursors (
    relay           text        PRIMARY KEY,  -- the name of the broker, such as nats
    epoch           bigint      NOT NULL DEFAULT 0,
    transaction_id  xid8        NOT NULL DEFAULT '0',
    position        bigint      NOT NULL DEFAULT 0,
    published       bigint      NOT NULL DEFAULT 0,
    last_success_at timestamptz,
    failing_since   timestamptz,
    last_error      text
);
