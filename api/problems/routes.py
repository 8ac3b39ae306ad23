"""The pages behind `type`: what each problem means and what to do about it."""

from __future__ import annotations

from html import escape

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from api.problems import catalog
from api.problems.catalog import NOT_FOUND, PROBLEM_TYPES
from api.problems.problem import Problem
from api.problems.strict_route import StrictRoute

router = APIRouter(
    prefix=catalog.PATH, tags=["Problems"], responses={"default": {}}, route_class=StrictRoute
)


class ProblemType(BaseModel):
    """What a code means, and what to do about it."""

    type: str
    code: str
    status: int
    title: str
    meaning: str
    remedy: str


class ProblemTypeList(BaseModel):
    """Every problem type."""

    items: list[ProblemType]


@router.get("", summary="List problem types", response_model=ProblemTypeList)
async def list_problem_types(request: Request) -> Response:
    """Every code, what it means and what to do about it; HTML for a browser, else JSON."""
    items = [_described(PROBLEM_TYPES[code]) for code in sorted(PROBLEM_TYPES)]
    if _wants_html(request):
        links = (f'<li><a href="{p.type}">{p.code}</a>: {escape(p.meaning)}' for p in items)
        return _html("Problems", f"<ul>{''.join(links)}</ul>")
    return _json(ProblemTypeList(items=items))


@router.get("/{code}", summary="Get a problem type", response_model=ProblemType)
async def get_problem_type(request: Request, code: str) -> Response:
    """What a code means and what to do about it; HTML for a browser, else JSON."""
    if code not in PROBLEM_TYPES:
        raise Problem(NOT_FOUND, f"Unknown problem type; {catalog.PATH} lists all.")
    described = _described(PROBLEM_TYPES[code])
    if _wants_html(request):
        text = f"<p><code>{code}</code> ({described.status})</p><p>{escape(described.meaning)}</p>"
        return _html(described.title, f"{text}<p>{escape(described.remedy)}</p>")
    return _json(described)


def _described(problem_type: catalog.ProblemType) -> ProblemType:
    return ProblemType(
        type=problem_type.uri,
        code=problem_type.code,
        status=problem_type.status,
        title=problem_type.title,
        meaning=problem_type.meaning,
        remedy=problem_type.remedy,
    )


def _wants_html(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _html(title: str, body: str) -> Response:
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
    return HTMLResponse(f"{head}<h1>{title}</h1>{body}</html>", headers={"Vary": "Accept"})


def _json(body: BaseModel) -> Response:
    headers = {"Vary": "Accept"}
    return Response(body.model_dump_json(), headers=headers, media_type="application/json")
