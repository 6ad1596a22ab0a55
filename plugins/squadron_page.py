"""The page: vector collections in Airflow's navigation, and as a tab on every DAG.

Airflow imports this file in every process, so it imports nothing heavy. The application is made when the api-server
asks for it.
"""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

log = logging.getLogger(__name__)

PREFIX = "/squadron"
# Where Airflow is served below a path, links begin with it.
ADDRESS = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/") + PREFIX


class SquadronPage(AirflowPlugin):
    """Collections, their generations and runs, a search, promote and rollback."""

    name = "squadron_page"
    external_views = [  # noqa: RUF012 (Airflow's own way)
        {
            "name": "Vectors",
            "href": f"{ADDRESS}/",
            "destination": "nav",
            "url_route": "squadron",
            "icon": f"{ADDRESS}/static/icon.svg",
            "icon_dark_mode": f"{ADDRESS}/static/icon_dark.svg",
        },
        {
            "name": "Vectors",
            "href": f"{ADDRESS}/?dag={{DAG_ID}}",
            "destination": "dag",
            "url_route": "squadron_dag",
            "icon": f"{ADDRESS}/static/icon.svg",
            "icon_dark_mode": f"{ADDRESS}/static/icon_dark.svg",
        },
    ]

    @property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        try:
            from squadron_web.application import application
        except ModuleNotFoundError as error:
            if error.name != "squadron":
                raise
            log.error("there is no page: the package squadron is not installed here. The DAGs' import errors say how")
            return []
        return [{"app": application, "url_prefix": PREFIX, "name": "Squadron"}]
