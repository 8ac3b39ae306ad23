-- After a restore, events that readers have seen may be gone, or be elsewhere in the log.
CREATE TABLE log_epochs (
    -- Seconds since 1970: an epoch that a restore removes is not counted again.
    epoch          bigint PRIMARY KEY CHECK (epoch > 0),
    -- The last event that is as it was in all earlier epochs.
    transaction_id xid8   NOT NULL,
    position       bigint NOT NULL,
    reason         text   NOT NULL
);

-- Differences between the log and Temporal that a person has accepted.
CREATE TABLE accepted_differences (
    order_id    text        NOT NULL,
    difference  text        NOT NULL,
    because     text        NOT NULL,
    accepted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (order_id, difference)
);
