"""The application: the page's files and its routes. Every one of them needs a user that Airflow knows."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from airflow.api_fastapi.core_api.security import get_user
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse, Response

from squadron.errors import SquadronError
from squadron_web.move_routes import move_routes
from squadron_web.read_routes import read_routes

STATIC = Path(__file__).parent / "static"
FILES = {path.name for path in STATIC.iterdir()}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)

application = FastAPI(
    title="Squadron", docs_url=None, redoc_url=None, openapi_url=None, dependencies=[Depends(get_user)]
)
application.include_router(read_routes)
application.include_router(move_routes)


@application.exception_handler(SquadronError)
def error_response(_: Request, error: SquadronError) -> JSONResponse:
    """Our own errors are written for the reader: they are the answer."""
    return JSONResponse({"detail": str(error)}, 409)


@application.middleware("http")
async def with_security_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """The answer with headers by which only the page's own scripts run, and only Airflow may frame the page."""
    response = await call_next(request)
    response.headers.setdefault("Content-Security-Policy", POLICY)
    response.headers.setdefault("Cache-Control", "no-cache, private")
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    return response


@application.get("/")
def page() -> FileResponse:
    return FileResponse(STATIC / "page.html")


@application.get("/static/{name}")
def static(name: str) -> FileResponse:
    if name not in FILES:
        raise HTTPException(404, f"there is no file {name!r}")
    return FileResponse(STATIC / name)
