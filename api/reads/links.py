"""Addresses of other pages about an order: its workflow, and its traces."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.auth.authentication import require_scope
from api.auth.permissions import OPERATE
from api.dependencies import ServicesDep
from api.problems.handlers import PROBLEMS

router = APIRouter(
    prefix="/v1/links", tags=["Operations"], responses=PROBLEMS, route_class=require_scope(OPERATE)
)


class LinkTemplates(BaseModel):
    """Addresses of other pages, in which ids replace what is in braces; null where none is set."""

    workflow: str | None = Field(
        description="an order's workflow in the Temporal Web UI, by `{order_id}`:"
        " `ORDERLY_TEMPORAL_UI_URL`"
    )
    trace: str | None = Field(description="a trace, by `{trace_id}`: `ORDERLY_TRACE_URL`")


@router.get("", summary="Get link templates")
async def get_links(services: ServicesDep) -> LinkTemplates:
    """Where the workflow of an order is shown, and a trace."""
    ui, namespace = services.temporal_ui_url, services.client.namespace
    workflow = f"{ui.rstrip('/')}/namespaces/{namespace}/workflows/{{order_id}}" if ui else None
    return LinkTemplates(workflow=workflow, trace=services.trace_url)
