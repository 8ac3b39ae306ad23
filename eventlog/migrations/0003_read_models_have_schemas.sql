-- Each projection has a schema of its own now, filled from the log: see readside/checkpoints.py.
DROP TABLE IF EXISTS order_view, projections;
