-- Every published event of every order. Nothing here is ever changed or removed.
CREATE TABLE order_events (
    position       bigint GENERATED ALWAYS AS IDENTITY,
    -- Positions are handed out before commit, so a reader that trusts them alone skips late commits.
    -- The transaction id tells a reader which rows can no longer be preceded by others.
    transaction_id xid8        NOT NULL DEFAULT pg_current_xact_id(),
    order_id       text        NOT NULL,
    version        integer     NOT NULL CHECK (version > 0),
    type           text        NOT NULL,
    schema_version integer     NOT NULL,
    occurred_at    timestamptz NOT NULL,
    recorded_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    data           jsonb       NOT NULL,
    metadata       jsonb       NOT NULL,
    PRIMARY KEY (order_id, version)
);

-- The order in which projections read.
CREATE UNIQUE INDEX order_events_in_commit_order ON order_events (transaction_id, position);

CREATE FUNCTION refuse_to_change_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        RAISE EXCEPTION 'order % already has another event as version %', OLD.order_id, OLD.version
            USING ERRCODE = 'unique_violation';
    END IF;
    RAISE EXCEPTION 'order_events is append-only: correct a mistake by a new event';
END $$;

CREATE TRIGGER order_events_never_change BEFORE UPDATE OR DELETE ON order_events
    FOR EACH ROW EXECUTE FUNCTION refuse_to_change_events();
CREATE TRIGGER order_events_never_vanish BEFORE TRUNCATE ON order_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_change_events();

-- Delivered at commit: wakes the projector.
CREATE FUNCTION announce_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NOTIFY order_events;
    RETURN NULL;
END $$;
CREATE TRIGGER order_events_announced AFTER INSERT ON order_events
    FOR EACH STATEMENT EXECUTE FUNCTION announce_events();
