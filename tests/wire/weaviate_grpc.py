"""A Weaviate server's gRPC side, by the client package's own generated stubs."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

import grpc
import numpy as np
from weaviate.proto.v1 import (
    aggregate_pb2,
    batch_delete_pb2,
    batch_pb2,
    health_weaviate_pb2,
    properties_pb2,
    search_get_pb2,
    tenants_pb2,
    weaviate_pb2_grpc,
)

from tests.wire.weaviate_data import Class, InvalidError, Stored, meeting, page

if TYPE_CHECKING:
    from tests.wire.weaviate_server import WeaviateServer

QUERY_DEFAULT_LIMIT = 10
# As proxies translate them; what a fault's HTTP status is in gRPC.
CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


class Service(weaviate_pb2_grpc.WeaviateServicer):
    """Weaviate's service."""

    def __init__(self, server: "WeaviateServer") -> None:
        self._server = server

    def BatchObjects(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self._server.batches.append(len(request.objects))
        return self._answer("BatchObjects", request, context, self._batch)

    def BatchDelete(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._answer("BatchDelete", request, context, self._delete)

    def Search(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._answer("Search", request, context, self._search)

    def Aggregate(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._answer("Aggregate", request, context, self._aggregate)

    def TenantsGet(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._answer("TenantsGet", request, context, lambda _: tenants_pb2.TenantsGetReply())

    def _answer(self, method: str, request: Any, context: grpc.ServicerContext, work: Callable[[Any], Any]) -> Any:
        server = self._server
        server.requests[method] = request
        fault = server.befalling(f"GRPC /weaviate.v1.Weaviate/{method}")
        if fault and fault.delay_seconds:
            given_up = threading.Event()
            context.add_callback(given_up.set)
            given_up.wait(fault.delay_seconds)
        if fault and fault.status:
            context.abort(CODES[fault.status], fault.body or "refused on request")
        if not server.allows(dict(context.invocation_metadata()).get("authorization")):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, f"extract auth: {server.refused_key}")
        try:
            with server.under_way(), server.database.lock:
                reply = work(request)
        except InvalidError as error:
            context.abort(grpc.StatusCode.UNKNOWN, str(error))
        if fault and fault.dropped:
            server.cut_grpc()
        return reply

    def _batch(self, request: Any) -> Any:
        errors = []
        for index, one in enumerate(request.objects):
            try:
                key = UUID(one.uuid)
                if reason := self._server.refusal(key):
                    raise InvalidError(reason)
                self._server.database.open(one.collection).put(Stored(key, _properties(one), _vector(one)))
            except (InvalidError, ValueError) as error:
                errors.append(batch_pb2.BatchObjectsReply.BatchError(index=index, error=str(error)))
        return batch_pb2.BatchObjectsReply(errors=errors)

    def _delete(self, request: Any) -> Any:
        of = self._server.database.open(request.collection)
        meets = meeting(of, request.filters)
        matches = [stored.uuid for stored in of.ordered() if meets(stored)]
        outcomes = []
        for key in matches[: self._server.query_maximum_results]:
            reason = self._server.refusal(key)
            if not reason:
                of.remove(key.int)
            outcomes.append(
                batch_delete_pb2.BatchDeleteObject(uuid=key.bytes, successful=not reason, error=reason or "")
            )
        done = sum(outcome.successful for outcome in outcomes)
        return batch_delete_pb2.BatchDeleteReply(
            failed=len(outcomes) - done,
            successful=done,
            matches=len(matches),
            objects=outcomes if request.verbose else [],
        )

    def _search(self, request: Any) -> Any:
        of, limit = self._server.database.open(request.collection), request.limit or QUERY_DEFAULT_LIMIT
        if request.offset + limit > self._server.query_maximum_results:
            raise InvalidError("explorer: get class: invalid pagination params: query maximum results exceeded")
        filtered = request.HasField("filters")
        if request.after and (filtered or request.offset or request.HasField("near_vector")):
            raise InvalidError("cursor api: invalid 'after' parameter: it cannot be combined with other parameters")
        meets = meeting(of, request.filters) if filtered else None
        if request.HasField("near_vector"):
            found = of.nearest(_query(request.near_vector), limit, meets)
        else:
            rows = (stored for stored in of.ordered() if meets is None or meets(stored))
            found = [(stored, None) for stored in page(rows, request.after, limit)]
        return search_get_pb2.SearchReply(results=[_result(of, request, *one) for one in found])

    def _aggregate(self, request: Any) -> Any:
        count = len(self._server.database.open(request.collection).objects)
        return aggregate_pb2.AggregateReply(single_result=aggregate_pb2.AggregateReply.Single(objects_count=count))


def health() -> grpc.GenericRpcHandler:
    """The health service, which says that all is well."""
    serving = health_weaviate_pb2.WeaviateHealthCheckResponse(
        status=health_weaviate_pb2.WeaviateHealthCheckResponse.SERVING
    )
    check = grpc.unary_unary_rpc_method_handler(
        lambda request, context: serving,
        request_deserializer=health_weaviate_pb2.WeaviateHealthCheckRequest.FromString,
        response_serializer=health_weaviate_pb2.WeaviateHealthCheckResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check})


def _properties(one: Any) -> dict[str, Any]:
    fields = one.properties.non_ref_properties.fields
    values = {name: getattr(value, value.WhichOneof("kind")) for name, value in fields.items()}
    return {name: value for name, value in values.items() if fields[name].WhichOneof("kind") != "null_value"}


def _vector(one: Any) -> np.ndarray | None:
    content = one.vectors[0].vector_bytes if one.vectors else one.vector_bytes
    return np.frombuffer(content, "<f4") if content else None


def _query(near: Any) -> np.ndarray:
    content = near.vector_bytes or (near.vectors[0].vector_bytes if near.vectors else b"")
    for target in near.vector_for_targets:
        content = target.vector_bytes or target.vectors[0].vector_bytes
    return np.frombuffer(content, "<f4")


def _result(of: Class, request: Any, stored: Stored, distance: float | None) -> Any:
    wanted = request.properties
    every = not request.HasField("properties") or wanted.return_all_nonref_properties
    names = stored.properties if every else wanted.non_ref_properties
    fields = {name: _value(of, name, stored.properties[name]) for name in names if name in stored.properties}
    metadata = search_get_pb2.MetadataResult(id=str(stored.uuid), id_as_bytes=stored.uuid.bytes)
    if distance is not None and request.metadata.distance:
        metadata.distance, metadata.distance_present = distance, True
    if request.metadata.vector and stored.vector is not None:
        metadata.vector_bytes = stored.vector.tobytes()
    properties = search_get_pb2.PropertiesResult(
        target_collection=of.schema["class"], non_ref_props=properties_pb2.Properties(fields=fields)
    )
    return search_get_pb2.SearchResult(properties=properties, metadata=metadata)


def _value(of: Class, name: str, value: Any) -> Any:
    if of.property(name)["dataType"][0] == "int":
        return properties_pb2.Value(int_value=int(value))
    return properties_pb2.Value(text_value=value)
