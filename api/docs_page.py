"""The API documentation at /docs, served without external resources."""

from __future__ import annotations

from pathlib import Path

import fastapi_offline
from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

PATH = "/docs"
ASSETS = f"{PATH}/assets"

# The browser blocks all requests of the page to other sites.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline';"
    " style-src 'self' 'unsafe-inline'; img-src 'self' data:"
}


def install_docs_page(app: FastAPI) -> None:
    """Serves the page, with its script and style from the installed package."""
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=app.title,
        swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{ASSETS}/swagger-ui.css",
        swagger_favicon_url="data:,",
        # The default validator is an external service.
        swagger_ui_parameters={"validatorUrl": None, "docExpansion": "none"},
    )

    async def get_docs() -> HTMLResponse:
        return HTMLResponse(page.body, headers=_HEADERS)

    app.add_api_route(PATH, get_docs, include_in_schema=False)
    static = Path(fastapi_offline.__file__).with_name("static")
    app.mount(ASSETS, StaticFiles(directory=static), name="docs-assets")
