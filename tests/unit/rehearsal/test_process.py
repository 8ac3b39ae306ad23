"""A checkout whose rules cannot be run is one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from rehearsal.process import CheckoutError, Rules


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (None, "other is not a directory: name a checkout of orderly."),
        ("", "other does not import: it has no package `orders`."),
        (
            "import nothing_of_this_name\n",
            "other does not import: ModuleNotFoundError: No module named 'nothing_of_this_name'.",
        ),
    ],
    ids=["no directory", "no rules", "does not import"],
)
async def test_checkout_without_rules_is_one_sentence(
    tmp_path: Path, source: str | None, sentence: str
) -> None:
    directory = tmp_path / "other"
    if source is not None:
        directory.mkdir()
    if source:
        (directory / "orders").mkdir()
        (directory / "orders" / "__init__.py").write_text(source)

    with pytest.raises(CheckoutError) as caught:
        await Rules.start(directory)
    assert str(caught.value).endswith(sentence)
    assert "\n" not in str(caught.value)
