"""Access: Airflow's own users and permissions decide who sees a collection, and who moves what is live."""

from urllib.parse import urlsplit

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.configuration import conf
from airflow.models.dag import DagModel
from fastapi import HTTPException, Request


def may_read(user: BaseUser, dag_id: str) -> bool:
    """Whether the user may see the DAG, and so its collection."""
    return get_auth_manager().is_authorized_dag(method="GET", details=_details(dag_id), user=user)


def may_read_runs(user: BaseUser, dag_id: str) -> bool:
    """Whether the user may see the DAG's runs."""
    return get_auth_manager().is_authorized_dag(
        method="GET", access_entity=DagAccessEntity.RUN, details=_details(dag_id), user=user
    )


def may_move(user: BaseUser, dag_id: str) -> bool:
    """Whether the user may trigger the DAG, and so make a generation live."""
    return get_auth_manager().is_authorized_dag(
        method="POST", access_entity=DagAccessEntity.RUN, details=_details(dag_id), user=user
    )


def from_this_page(request: Request) -> None:
    """Refuse a POST that another site's page could have sent with the user's cookie.

    A form of another site cannot send JSON. A browser names the site in Sec-Fetch-Site, over plain HTTP only in
    Origin. A program, which authenticates with a token, sends neither.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "the body is not application/json")
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    own = {request.headers.get("host"), urlsplit(conf.get("api", "base_url", fallback="")).netloc}
    if site not in (None, "same-origin") or (site is None and origin and urlsplit(origin).netloc not in own):
        raise HTTPException(403, "this was sent by the page of another site")


def _details(dag_id: str) -> DagDetails:
    return DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))
