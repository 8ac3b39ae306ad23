"""The public event feed: pages, and a stream of server-sent events."""
