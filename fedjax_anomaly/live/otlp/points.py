"""The OpenTelemetry protocol's metrics, as numbers that belong to columns: decoding and answers, no network."""

import itertools
import math
import zlib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

PROTOBUF, JSON = "application/x-protobuf", "application/json"

_CUMULATIVE = 2
"""`AggregationTemporality` of the protocol."""


class Malformed(ValueError):
    """A body that is no request; the sender must not send it again."""


class TooLarge(ValueError):
    """A body or a request that will never be taken in; the sender must divide it."""


class Counter(NamedTuple):
    """Of a number that only grows until its process ends.

    Attributes:
      series: what tells it from all others.
      start_ns: when its counting began, in nanoseconds since 1970; 0 where that is not known.
      cumulative: whether it counts since then; else only since the point before.
    """

    series: Hashable
    start_ns: int
    cumulative: bool


class Point(NamedTuple):
    """One number of an event.

    Attributes:
      stream: whose event it is.
      time_ns: when it was measured, in nanoseconds since 1970.
      column: the name of the metric, with chosen attributes.
      value: as it was sent; not-a-number and infinities are left for the detector to reject.
      source: the number of its data point in the request; -1 for an attribute of the resource.
      counter: of a monotonic sum, and of the parts of histograms and summaries.
    """

    stream: str
    time_ns: int
    column: str
    value: Any
    source: int
    counter: Counter | None = None


class Points(NamedTuple):
    """The content of a request.

    Attributes:
      points: the numbers that could be read.
      refused: the numbers of the data points that could not, and why.
    """

    points: list[Point]
    refused: dict[int, str]


def unzipped(body: bytes, most_bytes: int) -> bytes:
    """The content of a gzip body.

    Raises:
      Malformed: when it is none.
      TooLarge: when it holds more than `most_bytes`; no more than that is ever unpacked.
    """
    unpacker = zlib.decompressobj(wbits=31)
    try:
        content = unpacker.decompress(body, most_bytes + 1)
    except zlib.error as error:
        raise Malformed(f"the body is not gzip: {error}") from None
    if len(content) > most_bytes:
        raise TooLarge(f"the body holds more than {most_bytes} bytes")
    if not unpacker.eof:
        raise Malformed("the gzip body ends too early")
    return content


def parse_request(body: bytes, content_type: str) -> "ExportMetricsServiceRequest":
    """Decodes a request; unknown fields are left out, as the protocol demands.

    Raises:
      Malformed: when the body is none.
    """
    from google.protobuf import json_format
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    try:
        if content_type == JSON:
            return json_format.Parse(body, ExportMetricsServiceRequest(), ignore_unknown_fields=True)
        return ExportMetricsServiceRequest.FromString(body)
    except (DecodeError, json_format.ParseError, UnicodeDecodeError) as error:
        raise Malformed(f"the body is no ExportMetricsServiceRequest: {error}") from None


def export_response(refused: Mapping[int, str]) -> "Message":
    """The answer to a request that was taken in, apart from some data points, with the reasons."""
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

    response = ExportMetricsServiceResponse()
    if refused:
        response.partial_success.rejected_data_points = len(refused)
        response.partial_success.error_message = "; ".join(dict.fromkeys(refused.values()))
    return response


def status(message: str) -> "Message":
    """The body of an answer to a request that was not taken in."""
    from google.rpc.status_pb2 import Status

    return Status(message=message)


def serialized(message: "Message", content_type: str) -> bytes:
    """A message in the encoding of the request that it answers."""
    from google.protobuf import json_format

    return json_format.MessageToJson(message).encode() if content_type == JSON else message.SerializeToString()


def points_of(
    request: "ExportMetricsServiceRequest", stream_attributes: Sequence[str], point_attributes: Sequence[str]
) -> Points:
    """The numbers of a request.

    All are as sent; see `otlp.sums` for what becomes of those that have a `counter`. Histograms, exponential ones too,
    and summaries give two columns, NAME.sum and NAME.count; their buckets and quantiles are not used. A point flagged
    as without a recorded value, and a histogram's missing sum, are left out. A resource's own attributes are columns
    too, under their names, for categorical columns that are the same for all of a resource's points.

    Args:
      request: as decoded.
      stream_attributes: attributes of the resource; the values of those that it has, joined by `/`, name the stream. It
        must have the first.
      point_attributes: attributes that tell several points of a metric apart; those that a point has are appended to
        the column's name, as in `http.requests{route=/cart}`.
    """
    points: list[Point] = []
    refused: dict[int, str] = {}
    numbers = itertools.count()
    for resource_metrics in request.resource_metrics:
        resource = {a.key: _attribute(a.value) for a in resource_metrics.resource.attributes}
        stream = "/".join(str(resource[name]) for name in stream_attributes if name in resource)
        identity = tuple(sorted((name, str(value)) for name, value in resource.items()))
        times = set()
        data_points = _data_points(resource_metrics.scope_metrics)
        for (scope, name, temporality, point), source in zip(data_points, numbers, strict=False):
            problem = _problem(resource, stream_attributes[0], point)
            if problem:
                refused[source] = problem
                continue
            time_ns = point.time_unix_nano
            times.add(time_ns)
            label = _label(point, point_attributes)
            attributes = (
                tuple(sorted((a.key, str(_attribute(a.value))) for a in point.attributes)) if temporality else ()
            )
            for n, value in _values(name, point):
                series = (identity, scope, n, attributes)
                counter = (
                    Counter(series, point.start_time_unix_nano, temporality == _CUMULATIVE) if temporality else None
                )
                points.append(Point(stream, time_ns, n + label, value, source, counter))
        points += [Point(stream, time_ns, name, value, -1) for time_ns in times for name, value in resource.items()]
    return Points(points, refused)


def _data_points(scopes: Iterable[Any]) -> Iterator[tuple[str, str, int, Any]]:
    """Each data point, with the names of its scope and its metric, and the temporality where it counts, else 0."""
    for scope in scopes:
        for metric in scope.metrics:
            kind = metric.WhichOneof("data")
            if kind is None:
                continue
            data = getattr(metric, kind)
            temporality = _CUMULATIVE if kind == "summary" else getattr(data, "aggregation_temporality", 0)
            if kind == "sum" and not data.is_monotonic:
                temporality = 0
            for point in data.data_points:
                yield scope.scope.name, metric.name, temporality, point


def _problem(resource: dict[str, Any], stream_attribute: str, point: Any) -> str:
    if not resource.get(stream_attribute):
        return f"the resource has no attribute {stream_attribute}"
    return "" if point.time_unix_nano else "a data point has no time"


def _values(name: str, point: Any) -> list[tuple[str, float]]:
    from opentelemetry.proto.metrics.v1 import metrics_pb2

    if point.flags & metrics_pb2.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK:
        return []
    if isinstance(point, metrics_pb2.NumberDataPoint):
        kind = point.WhichOneof("value")
        return [(name, getattr(point, kind))] if kind else []
    has_sum = isinstance(point, metrics_pb2.SummaryDataPoint) or point.HasField("sum")
    return [(f"{name}.count", point.count), *([(f"{name}.sum", point.sum)] if has_sum else [])]


def _label(point: Any, names: Sequence[str]) -> str:
    if not names:
        return ""
    given = {a.key: _attribute(a.value) for a in point.attributes}
    chosen = ",".join(f"{name}={given[name]}" for name in names if name in given)
    return f"{{{chosen}}}" if chosen else ""


def _attribute(value: Any) -> Any:
    """A scalar attribute; others by their text."""
    kind = value.WhichOneof("value")
    scalar = kind in ("string_value", "bool_value", "int_value", "double_value")
    return getattr(value, kind) if scalar else str(value)


def same(left: Any, right: Any) -> bool:
    """Whether two values of one column are one; not-a-number is itself."""
    both_nan = isinstance(left, float) and isinstance(right, float) and math.isnan(left) and math.isnan(right)
    return both_nan or left == right
