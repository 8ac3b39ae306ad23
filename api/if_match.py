"""The If-Match header: the versions on one of which a request is based."""

from __future__ import annotations

import re

from api.problems.problem import malformed_header

ETAGS_MAX = 20
_ETAG = '(W/)?"[0-9]{1,9}"'
IF_MATCH = rf"^(\*|{_ETAG}(, *{_ETAG}){{0,{ETAGS_MAX - 1}}})$"


def expected_versions_of(if_match: str | None) -> list[int] | None:
    """The versions that the caller expects; None: any.

    Weak ETags count as strong ones: proxies weaken them when they compress, and a version stands
    for exactly one state.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    tags = [re.fullmatch(r'(?:W/)?"(\d{1,9})"', tag.strip()) for tag in if_match.split(",")]
    if len(tags) > ETAGS_MAX or not all(tags):
        detail = f'must be * or up to {ETAGS_MAX} ETags, such as "5"'
        raise malformed_header("If-Match", detail)
    return [int(tag[1]) for tag in tags if tag]
