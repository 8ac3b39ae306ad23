-- What an order was asked and told, as it was received: see eventlog/intents.py. Each is on the first
-- of the events that it caused, so that no transaction can have the one without the other.
ALTER TABLE order_events ADD COLUMN intent bytea;

-- What caused no event: no-ops, and rejections as far as there is room.
CREATE TABLE ineffective_intents (
    order_id   text        NOT NULL,
    version    integer     NOT NULL,  -- of the order that decided
    decided_at timestamptz NOT NULL,
    command_id text        NOT NULL,
    code       text,                  -- of the rejection; NULL for a no-op
    body       bytea       NOT NULL,
    PRIMARY KEY (order_id, version, decided_at, command_id)
);

CREATE FUNCTION refuse_to_change_intents() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'ineffective_intents is append-only';
END $$;
CREATE TRIGGER intents_never_change BEFORE UPDATE OR DELETE OR TRUNCATE ON ineffective_intents
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_change_intents();
