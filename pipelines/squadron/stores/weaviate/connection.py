"""Weaviate's connection: the client for REST and searches, and a channel of our own for what goes in bulk.

The client checks and converts every value of every object. To fill the same message from columns takes half the CPU
time of writing through it (benchmarks/stores), and to read ids a fifth.
"""

import logging
import os
import re
import weakref
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import grpc  # type: ignore[import-untyped]
import httpx
from weaviate import WeaviateClient
from weaviate.classes.init import AdditionalConfig, Auth, GrpcConfig, Timeout
from weaviate.connect import ConnectionParams
from weaviate.exceptions import WeaviateBaseError
from weaviate.proto.v1 import weaviate_pb2_grpc

from squadron.errors import SettingsError, StoreError
from squadron.process.retries import Failure, Retries
from squadron.settings.addresses import without_user
from squadron.settings.store_sections import WeaviateSettings
from squadron.stores.weaviate.failures import KEY, UNAUTHENTICATED, failure, may_pass, refused_key

# When an object is refused, the client logs all of it, text and vector; the errors raised here say enough.
logging.getLogger("weaviate-client").setLevel(logging.CRITICAL)
# It reports every REST request at the level that tasks log at.
if logging.getLogger("httpx").level == logging.NOTSET:
    logging.getLogger("httpx").setLevel(logging.WARNING)

CONNECT_SECONDS = 10
# gRPC's own pause after an outage grows to two minutes, and until its end every call fails: ours are to decide.
RECONNECTING = [(f"grpc.{which}_reconnect_backoff_ms", 500) for which in ("initial", "min")]
RECONNECTING += [("grpc.max_reconnect_backoff_ms", 2000)]
# What a server, and the client, take if the server does not say: `grpcMaxMessageSize` of its meta endpoint.
MESSAGE_BYTES = 104_858_000


@dataclass(frozen=True, eq=False)
class Connection:
    """An open connection, with the settings that its calls keep to. It is closed with its last user, or by `close`."""

    settings: WeaviateSettings
    message_bytes: int
    """The largest gRPC message that the server takes."""
    client: WeaviateClient = field(repr=False)
    channel: grpc.Channel = field(repr=False)
    stub: Any = field(repr=False)
    """The calls of the service, as `weaviate.proto.v1` generates them."""
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    """Metadata of every call of the stub: the key."""

    def close(self) -> None:
        """Close it; closing again does nothing."""
        _close(self.client, self.channel)


def connected(settings: WeaviateSettings) -> Connection:
    """A connection whose REST and gRPC addresses answer; a server that is away is waited for.

    Raises StoreError, naming the setting, when one does not answer within `deadline_seconds`, SettingsError when the
    address or the key cannot be right.
    """

    def failed(unopened: _UnopenedError) -> Failure:
        cause = unopened.__cause__
        return Failure(unopened.attempt, unopened.reason, cause is not None and may_pass(*failure(cause)))

    retries = Retries("store.weaviate", settings.deadline_seconds, settings.max_retries)
    return retries.answer(partial(_opened, settings), _UnopenedError, failed, StoreError)


class _UnopenedError(Exception):
    """There is no connection: what was tried, and why it failed."""

    def __init__(self, attempt: str, reason: str) -> None:
        super().__init__(f"{attempt}: {reason}")
        self.attempt, self.reason = attempt, reason


def _opened(settings: WeaviateSettings) -> Connection:
    key, timeout, addresses = _key(), settings.timeout_seconds, _addresses(settings)
    client = WeaviateClient(
        addresses,
        auth_client_secret=Auth.api_key(key) if key else None,
        additional_config=AdditionalConfig(
            timeout=Timeout(init=timeout, query=timeout, insert=timeout),
            grpc_config=GrpcConfig(channel_options=RECONNECTING),
        ),
        skip_init_checks=True,  # they ask PyPI for a newer client
    )
    try:
        client.connect()
        message_bytes = int(client.get_meta().get("grpcMaxMessageSize", MESSAGE_BYTES))
    except (WeaviateBaseError, httpx.TransportError, KeyError, TypeError, ValueError) as error:
        client.close()
        code, reason = failure(error)
        if code in UNAUTHENTICATED:
            raise refused_key(settings, bool(key)) from error
        attempt = f"store.weaviate.uri {without_user(settings.uri)!r} cannot be used"
        raise _UnopenedError(attempt, f"{reason}. Is a Weaviate server there?") from error
    channel = _channel(addresses, message_bytes)
    headers = (("authorization", f"Bearer {key}"),) if key else ()
    stub = weaviate_pb2_grpc.WeaviateStub(channel)  # type: ignore[no-untyped-call]
    connection = Connection(settings, message_bytes, client, channel, stub, headers)
    weakref.finalize(connection, _close, client, channel)
    _check_channel(connection, f"{addresses.grpc.host}:{addresses.grpc.port}")
    return connection


def _key() -> str:
    key = os.environ.get(KEY.variable, "").strip()
    if re.search(r"[^!-~]", key):  # the client would say so itself, and show the key
        raise SettingsError(f"{KEY.variable} holds a character that no key has, a space perhaps: set it again")
    return key


def _addresses(settings: WeaviateSettings) -> ConnectionParams:
    try:
        address = urlsplit(settings.uri)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ValueError("wanted http://HOST:PORT, or https://")
        secure = address.scheme == "https"
        cloud = address.hostname.endswith(".weaviate.cloud")
        return ConnectionParams.from_params(
            http_host=address.hostname,
            http_port=address.port or (443 if secure else 80),
            http_secure=secure,
            grpc_host=settings.grpc_host or ("grpc-" if cloud else "") + address.hostname,
            grpc_port=settings.grpc_port or (443 if secure else 50051),
            grpc_secure=secure,
        )
    except ValueError as error:
        raise SettingsError(f"store.weaviate.uri {without_user(settings.uri)!r} cannot be used: {error}") from error


def _channel(addresses: ConnectionParams, message_bytes: int) -> grpc.Channel:
    target = f"{addresses.grpc.host}:{addresses.grpc.port}"
    options = [(f"grpc.max_{way}_message_length", message_bytes) for way in ("send", "receive")]
    options += RECONNECTING
    if addresses.grpc.secure:
        return grpc.secure_channel(target, grpc.ssl_channel_credentials(), options)
    return grpc.insecure_channel(target, options)


def _check_channel(connection: Connection, target: str) -> None:
    """Raise _UnopenedError when nothing answers gRPC: the client would notice in its first search, after a minute."""
    settings = connection.settings
    check = connection.channel.unary_unary("/grpc.health.v1.Health/Check")
    try:
        check(b"", timeout=min(settings.timeout_seconds, CONNECT_SECONDS), metadata=connection.headers)
    except grpc.RpcError as error:
        connection.close()
        code, reason = failure(error)
        raise _UnopenedError(
            f"store.weaviate.uri {without_user(settings.uri)!r} answers, but nothing speaks gRPC at {target}",
            f"{code}: {reason}. Set store.weaviate.grpc_port, and store.weaviate.grpc_host where it is another",
        ) from error


def _close(client: WeaviateClient, channel: grpc.Channel) -> None:
    client.close()
    channel.close()
