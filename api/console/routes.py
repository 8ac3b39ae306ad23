"""Serves the console: one page for all of its addresses, and its files.

They need no token, as they say nothing of any order: what they show comes from the API.
"""

from __future__ import annotations

import mimetypes
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope

PATH = "/console"
ASSETS = f"{PATH}/assets"
STATIC = Path(__file__).with_name("static")

# Scripts, styles and data come from this address alone, and no script can turn text into markup.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    # The files of a release belong together: a browser asks each time whether they have changed.
    "Cache-Control": "no-cache",
}
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


class _Assets(StaticFiles):
    """The files, with the headers of the page."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        return response


def install_console(app: FastAPI) -> None:
    """Serves the console under PATH, and leads there from the root."""
    for suffix, media_type in _TYPES.items():  # Not by the tables of the machine.
        mimetypes.add_type(media_type, suffix)

    async def get_console() -> FileResponse:
        return FileResponse(STATIC / "index.html", media_type="text/html", headers=HEADERS)

    async def get_root() -> RedirectResponse:
        return RedirectResponse(f"{PATH}/")

    app.mount(ASSETS, _Assets(directory=STATIC), name="console-assets")
    app.add_api_route("/", get_root, include_in_schema=False)
    app.add_api_route(PATH, get_console, include_in_schema=False)
    app.add_api_route(f"{PATH}/{{page:path}}", get_console, include_in_schema=False)
