"""The application: the page's files, what it shows, and the moves it makes. Nothing is answered to strangers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

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
def told(_: Request, error: SquadronError) -> JSONResponse:
    """What our own errors say is for the reader."""
    return JSONResponse({"detail": str(error)}, 409)


@application.middleware("http")
async def guarded(request: Request, call_next: Callable[..., Any]) -> Response:
    """Only the page's own scripts run in it, and only Airflow may frame it."""
    answer: Response = await call_next(request)
    answer.headers.setdefault("Content-Security-Policy", POLICY)
    answer.headers.setdefault("Cache-Control", "no-cache, private")
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Referrer-Policy"] = "same-origin"
    return answer


@application.get("/")
def page() -> FileResponse:
    return FileResponse(STATIC / "page.html")


@application.get("/static/{name}")
def static(name: str) -> FileResponse:
    if name not in FILES:
        raise HTTPException(404, f"there is no file {name!r}")
    return FileResponse(STATIC / name)
