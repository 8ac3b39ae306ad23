-- Where webhooks go, as operators set it. Only the API writes it, but for the status `gone`.
CREATE TABLE webhook_endpoints (
    endpoint_id      text        PRIMARY KEY,
    version          integer     NOT NULL DEFAULT 1,
    url              text        NOT NULL,
    event_types      text[],     -- NULL: all
    customer_id      text,       -- NULL: of all customers
    description      text,
    base_url         text        NOT NULL,  -- of the API, for links in events
    secret           text        NOT NULL,  -- sealed, like the next
    old_secret       text,
    old_secret_until timestamptz,
    status           text        NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'paused', 'gone')),
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    resumed_at       timestamptz
);

-- How an endpoint answers. Delivery writes it.
CREATE TABLE webhook_health (
    endpoint_id     text        PRIMARY KEY REFERENCES webhook_endpoints ON DELETE CASCADE,
    failures        integer     NOT NULL DEFAULT 0,  -- since the last success
    failing_since   timestamptz,
    next_try_at     timestamptz,  -- set while the endpoint is down
    probes          integer     NOT NULL DEFAULT 0,  -- failed ones since then
    last_error      text,
    last_success_at timestamptz,
    delivered       bigint      NOT NULL DEFAULT 0,
    failed          bigint      NOT NULL DEFAULT 0
);

-- How far delivery has come: one cursor of an endpoint for ever, and one with an end for each replay.
CREATE TABLE webhook_cursors (
    cursor_id            text        PRIMARY KEY,
    endpoint_id          text        NOT NULL REFERENCES webhook_endpoints ON DELETE CASCADE,
    epoch                bigint      NOT NULL,
    transaction_id       xid8        NOT NULL,
    position             bigint      NOT NULL,
    until_transaction_id xid8,       -- NULL: for ever
    until_position       bigint,
    event_ids            text[],     -- NULL: all that the endpoint's filter matches
    revision             bigint      NOT NULL DEFAULT 0,
    created_at           timestamptz NOT NULL DEFAULT now(),
    CHECK ((until_transaction_id IS NULL) = (until_position IS NULL))
);
CREATE INDEX webhook_cursors_of_endpoint ON webhook_cursors (endpoint_id);

-- Orders whose next event an endpoint did not accept, and which the cursor has passed.
CREATE TABLE webhook_parked_orders (
    cursor_id   text        NOT NULL REFERENCES webhook_cursors ON DELETE CASCADE,
    order_id    text        NOT NULL,
    version     integer     NOT NULL,
    attempts    integer     NOT NULL,
    error       text        NOT NULL,
    parked_at   timestamptz NOT NULL,
    next_try_at timestamptz NOT NULL,
    PRIMARY KEY (cursor_id, order_id)
);

-- Every attempt, for a set time. It outlives its endpoint.
CREATE TABLE webhook_deliveries (
    delivery_id  bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    endpoint_id  text        NOT NULL,
    event_id     text        NOT NULL,
    event_type   text        NOT NULL,
    attempted_at timestamptz NOT NULL,
    latency_ms   integer     NOT NULL,
    status       integer,    -- NULL: no answer
    error        text,       -- NULL: delivered
    answer       text        NOT NULL,
    next_try_at  timestamptz
);
CREATE INDEX webhook_deliveries_of_endpoint ON webhook_deliveries (endpoint_id, delivery_id);
CREATE INDEX webhook_failures_of_endpoint ON webhook_deliveries (endpoint_id, delivery_id)
    WHERE error IS NOT NULL;
