"""Connection types: the forms of Airflow Connections that Airflow's own providers do not bring.

Airflow shows the form without importing the hook, which is in plugins/: nothing here imports Airflow.
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
                "description": "Where an object store is that speaks as S3 does. Empty: AWS.",
                "schema": {"type": ["string", "null"]},
            },
        },
    }
]
