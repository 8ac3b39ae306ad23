-- A NOTIFY in the append makes all appends commit one after the other. The processes that append
-- announce it after the commit: see eventlog/announcements.py.
DROP TRIGGER order_events_announced ON order_events;
DROP FUNCTION announce_events();
