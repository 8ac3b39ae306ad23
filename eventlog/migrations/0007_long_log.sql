-- The feed of a customer, without reading the events of all others.
CREATE INDEX order_events_by_customer ON order_events ((data->>'customer_id')) WHERE version = 1;

-- Rows never change, so a page can be frozen for ever soon after it is full. By default vacuum would
-- wait for a share of the log, which grows, and come back to the same pages later.
ALTER TABLE order_events SET (
    autovacuum_freeze_min_age = 0,
    autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_vacuum_insert_scale_factor = 0
);
