-- The last resume of the endpoint that delivery takes into account: after a later one it tries at once
-- what waits, also if the process that was delivering had ended, or had stopped by then.
ALTER TABLE webhook_health ADD COLUMN resumed_at timestamptz;
