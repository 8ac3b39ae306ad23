"""`make monitoring`: writes all generated files."""

from __future__ import annotations

from dev.monitoring.files import generated

for file, text in generated().items():
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
