"""Problem documents that are prepared once, for responses that must cost little."""

from __future__ import annotations

import json

from api.context import RequestContext, new_context
from api.problems.handlers import MEDIA_TYPE, problem_details
from api.problems.problem import Problem


class CannedProblem:
    """A problem whose document lacks only what is specific to a request."""

    def __init__(self, problem: Problem) -> None:
        document = problem_details(problem, new_context({}), "")
        self._document = document.model_dump(mode="json", exclude_none=True)
        self.type = problem.type
        self.headers = {"Content-Type": MEDIA_TYPE, **problem.headers}

    def body(self, context: RequestContext, instance: str) -> bytes:
        """The document; `instance` is the path of the request."""
        ids = {"request_id": context.request_id, "trace_id": context.trace_id}
        return json.dumps(self._document | {"instance": instance} | ids).encode()
