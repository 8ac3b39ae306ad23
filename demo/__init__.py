"""The demo: real baskets become orders over HTTP, and every cent is checked against the file."""
