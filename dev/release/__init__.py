"""Whether a release can be deployed without fear: `make release-check` (docs/releasing.md)."""
