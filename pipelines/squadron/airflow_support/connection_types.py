"""Connection types: the forms of Airflow Connections that no provider of Airflow's has.

Airflow shows a form without importing its hook, which is in plugins/. Nothing here imports Airflow.
"""

from typing import Any

CONNECTION_TYPES: list[dict[str, Any]] = [
    {
        "connection-type": "lancedb",
        "hook-class-name": "lancedb_connection.LanceDBHook",
        "hook-name": "LanceDB",
        "ui-field-behaviour": {
            "hidden-fields": ["port", "schema"],
            "relabeling": {
                "host": "Folder or URI",
                "login": "Access key id (S3)",
                "password": "Secret access key (S3)",
            },
            "placeholders": {"host": "/data/lancedb or s3://bucket/folder"},
        },
        "conn-fields": {
            "region": {"label": "Region (S3)", "schema": {"type": ["string", "null"]}},
            "endpoint": {
                "label": "Endpoint (S3)",
                "description": "The address of an object store that speaks S3's protocol. Empty: AWS.",
                "schema": {"type": ["string", "null"]},
            },
        },
    }
]
