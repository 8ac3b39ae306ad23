"""What clients and event consumers rely on, and the checks that refuse to break it."""
