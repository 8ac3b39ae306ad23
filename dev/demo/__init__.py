"""The demo: real baskets become orders over HTTP, live on, and every cent and piece is checked."""
