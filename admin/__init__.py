"""The admin address of each process: whether it is alive and ready, and its metrics."""
