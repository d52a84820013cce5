"""OTLP's messages in protobuf: the one module that imports opentelemetry, and only where something is exported."""

from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_service
from opentelemetry.proto.common.v1 import common_pb2 as common
from opentelemetry.proto.metrics.v1 import metrics_pb2 as metrics
from opentelemetry.proto.resource.v1 import resource_pb2 as resources
from opentelemetry.proto.trace.v1 import trace_pb2 as trace

from gateway.otlp_metrics import Instrument, Point
from gateway.otlp_spans import Span
from stream import __version__

__all__ = ["metrics_request", "refused_points", "refused_spans", "spans_request"]

_SCOPE = "trueclock"
_PARENT_FLAGS = trace.SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_REMOTE = _PARENT_FLAGS | trace.SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
_SAMPLED = 1


def spans_request(spans: Iterable[Span], resource: Mapping[str, str]) -> bytes:
    """The body of a request to /v1/traces."""
    scope = trace.ScopeSpans(scope=_scope(), spans=[_span(span) for span in spans])
    group = trace.ResourceSpans(resource=_resource(resource), scope_spans=[scope])
    return bytes(trace_service.ExportTraceServiceRequest(resource_spans=[group]).SerializeToString())


def metrics_request(instruments: Iterable[Instrument], resource: Mapping[str, str], start: int, now: int) -> bytes:
    """The body of a request to /v1/metrics: cumulative since `start` and as of `now`, in nanoseconds since 1970."""
    shown = [_metric(instrument, start, now) for instrument in instruments]
    scope = metrics.ScopeMetrics(scope=_scope(), metrics=shown)
    group = metrics.ResourceMetrics(resource=_resource(resource), scope_metrics=[scope])
    return bytes(metrics_service.ExportMetricsServiceRequest(resource_metrics=[group]).SerializeToString())


def refused_spans(reply: bytes) -> tuple[int, str]:
    """How many spans a 2xx reply of /v1/traces says were refused after all, and why; raise ValueError for no reply."""
    partial = _read(trace_service.ExportTraceServiceResponse(), reply).partial_success
    return max(partial.rejected_spans, 0), partial.error_message


def refused_points(reply: bytes) -> tuple[int, str]:
    """How many data points a 2xx reply of /v1/metrics says were refused, and why; raise ValueError for no reply."""
    partial = _read(metrics_service.ExportMetricsServiceResponse(), reply).partial_success
    return max(partial.rejected_data_points, 0), partial.error_message


def _read(message: Any, reply: bytes) -> Any:
    """Read a reply: protobuf, as OTLP wants it, or JSON, in which some answer whatever they are sent."""
    try:
        if reply.startswith(b"{"):  # which no message of these begins with
            json_format.Parse(reply, message)
        else:
            message.ParseFromString(reply)
    except (DecodeError, json_format.ParseError, RecursionError) as error:
        raise ValueError(str(error)) from None
    return message


def _scope() -> common.InstrumentationScope:
    return common.InstrumentationScope(name=_SCOPE, version=__version__)


def _resource(attributes: Mapping[str, str]) -> resources.Resource:
    return resources.Resource(attributes=_attributes(attributes))


def _attributes(values: Mapping[str, Any]) -> list[common.KeyValue]:
    return [common.KeyValue(key=key, value=_value(value)) for key, value in values.items()]


def _value(value: Any) -> common.AnyValue:
    match value:
        case str():
            return common.AnyValue(string_value=_printable(value))
        case bool():
            return common.AnyValue(bool_value=value)
        case int():
            return common.AnyValue(int_value=value)
        case tuple():
            return common.AnyValue(array_value=common.ArrayValue(values=[_value(each) for each in value]))
        case _:
            return common.AnyValue(double_value=value)


def _printable(text: str) -> str:
    """Protobuf takes UTF-8 alone: a lone surrogate, legal as a JSON escape, becomes "?"."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _span(span: Span) -> trace.Span:
    made = trace.Span(
        trace_id=bytes.fromhex(span.trace_id),
        span_id=bytes.fromhex(span.span_id),
        parent_span_id=bytes.fromhex(span.parent_span_id),
        flags=_SAMPLED | (_REMOTE if span.parent_span_id else _PARENT_FLAGS),
        name=_printable(span.name),
        kind=trace.Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=span.start,
        end_time_unix_nano=span.end,
        attributes=_attributes(span.attributes),
    )
    if span.first_token is not None:
        made.events.add(name="trueclock.first_token", time_unix_nano=span.first_token)
    if span.error is not None:
        made.status.code = trace.Status.STATUS_CODE_ERROR
        made.status.message = _printable(span.error)
    return made


def _metric(instrument: Instrument, start: int, now: int) -> metrics.Metric:
    made = metrics.Metric(name=instrument.name, description=instrument.help, unit=instrument.unit)
    match instrument.kind:
        case "sum":
            made.sum.is_monotonic = True
            made.sum.aggregation_temporality = metrics.AGGREGATION_TEMPORALITY_CUMULATIVE
            made.sum.data_points.extend(_number(point, start, now) for point in instrument.points)
        case "gauge":
            made.gauge.data_points.extend(_number(point, 0, now) for point in instrument.points)
        case "histogram":
            made.histogram.aggregation_temporality = metrics.AGGREGATION_TEMPORALITY_CUMULATIVE
            made.histogram.data_points.extend(_histogram(point, start, now) for point in instrument.points)
    return made


def _number(point: Point, start: int, now: int) -> metrics.NumberDataPoint:
    return metrics.NumberDataPoint(
        attributes=_attributes(point.attributes),
        start_time_unix_nano=start,
        time_unix_nano=now,
        as_double=point.value,
    )


def _histogram(point: Point, start: int, now: int) -> metrics.HistogramDataPoint:
    return metrics.HistogramDataPoint(
        attributes=_attributes(point.attributes),
        start_time_unix_nano=start,
        time_unix_nano=now,
        count=sum(point.counts),
        sum=point.value,
        explicit_bounds=point.bounds,
        bucket_counts=point.counts,
    )
