-- Callbacks that the API received, and what became of each. What they said is in the events that they
-- caused: nothing here is personal. The API writes it, and keeps a bounded number of rows.
CREATE TABLE callbacks (
    callback_id bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at timestamptz NOT NULL,
    service     text        NOT NULL,
    message_id  text,       -- NULL, like the next two: its signature was not valid, or it said nothing else
    type        text,
    order_id    text,
    outcome     text        NOT NULL,
    code        text        -- why it was rejected or refused
);
CREATE INDEX callbacks_of_service ON callbacks (service, callback_id);
CREATE INDEX callbacks_of_outcome ON callbacks (outcome, callback_id);
CREATE INDEX callbacks_of_order ON callbacks (order_id, callback_id) WHERE order_id IS NOT NULL;
