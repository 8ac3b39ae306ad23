"""The read side: projections of the log into tables that answer questions fast."""
