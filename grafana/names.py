"""Metrics that gateway and stream worker have beside those of the enriched events (`stream.families`).

Only those that a dashboard or rule uses; `docs/metrics.md` describes all. A test compares names and labels with what
both programs expose.
"""

from stream.families import Family

__all__ = [
    "BASELINE_PAIRS",
    "BASELINE_PAIRS_DROPPED",
    "BUILD",
    "FLEET_FAILING",
    "FLEET_RECORDS",
    "FORWARDED",
    "FORWARDED_OUTCOMES",
    "FORWARDER_ACKNOWLEDGED",
    "FORWARDER_BACKLOG",
    "FORWARDER_BACKLOG_OUTCOMES",
    "FORWARDER_BYTES",
    "FORWARDER_FAILING",
    "FORWARDER_OUTCOMES_FAILING",
    "FORWARDER_RECORDS",
    "IN_FLIGHT",
    "LEADING_STACK",
    "LOG_BACKLOG",
    "LOG_BYTES",
    "LOG_COMMIT",
    "LOG_DROPPED",
    "LOG_FAILING",
    "LOG_ROWS",
    "OTLP_BACKLOG",
    "OTLP_FAILING",
    "OTLP_POINTS",
    "OTLP_SPANS",
    "OUTCOMES",
    "OUTCOMES_DROPPED",
    "PARTITIONS",
    "PROBLEMS",
    "PROBLEMS_DROPPED",
    "PROCESS_CPU",
    "PROCESS_MEMORY",
    "PROCESS_START",
    "REFITS",
    "REFIT_SECONDS",
    "RELOADED",
    "RELOADED_AT",
    "RELOADS",
    "RESTARTS",
    "ROLE_CPU",
    "ROLE_FDS",
    "ROLE_MEMORY",
    "SLOWEST_SAVE",
    "STREAM_CLAIMS_LOST",
    "STREAM_EVENTS",
    "STREAM_FAILING",
    "STREAM_LAG",
    "STREAM_LAG_SECONDS",
    "STREAM_LEFT_OUT",
    "STREAM_PROBLEMS_FAILING",
    "STREAM_PROBLEM_REQUESTS",
    "STREAM_RECORDS",
    "STREAM_UNREADABLE",
    "TABLES",
    "TABLES_FAILING",
    "TOPIC_PARTITIONS",
    "UP",
    "WORKERS",
]

UP = Family("up", (), "1 while Prometheus can scrape the target; Prometheus' own.")
BUILD = Family("trueclock_build_info", ("version",), "The program's version.")
TABLES = Family("trueclock_stream_tables_info", ("version",), "The version of the tables in use.")
LEADING_STACK = Family("trueclock_leading_stack_info", ("stack",), "The reference stack that leads.")

WORKERS = Family("trueclock_gateway_workers", (), "Processes that serve requests.")
RESTARTS = Family("trueclock_gateway_restarts_total", ("role",), "Processes that ended and were replaced.")
ROLE_CPU = Family("trueclock_gateway_process_cpu_seconds_total", ("role",), "User and system time of a process.")
ROLE_MEMORY = Family("trueclock_gateway_process_resident_memory_bytes", ("role",), "Its resident memory.")
ROLE_FDS = Family("trueclock_gateway_process_open_fds", ("role",), "Its open file descriptors.")
IN_FLIGHT = Family("trueclock_requests_in_flight", (), "Requests being served.")
RELOADED = Family("trueclock_config_last_reload_successful", (), "0 while the file as it is was refused.")
RELOADED_AT = Family("trueclock_config_last_reload_success_timestamp_seconds", (), "When the configuration was taken.")
RELOADS = Family("trueclock_config_reloads_total", ("result",), "Changes of the configuration.")

LOG_ROWS = Family("trueclock_event_log_rows", (), "Rows held.")
LOG_BYTES = Family("trueclock_event_log_bytes", (), "Bytes that the log's data take.")
LOG_BACKLOG = Family("trueclock_event_log_backlog", (), "Recorded and not taken yet.")
LOG_COMMIT = Family("trueclock_event_log_slowest_commit_seconds", (), "The longest commit since start.")
LOG_FAILING = Family("trueclock_event_log_failing", (), "1 while events cannot be written, read or counted.")
LOG_DROPPED = Family("trueclock_events_dropped_total", ("reason",), "Events lost.")
OUTCOMES = Family("trueclock_outcomes_total", ("result",), "Outcomes that were posted.")
OUTCOMES_DROPPED = Family("trueclock_outcomes_dropped_total", ("reason",), "Outcomes that nothing was judged by.")
PROBLEMS = Family("trueclock_problems", (), "Problems held.")
PROBLEMS_DROPPED = Family("trueclock_problems_dropped_total", ("reason",), "Problems no longer held.")
BASELINE_PAIRS = Family("trueclock_baseline_pairs", (), "Pairs watched for a baseline.")
BASELINE_PAIRS_DROPPED = Family("trueclock_baseline_pairs_dropped_total", (), "Pairs given up.")
REFITS = Family("trueclock_baseline_refits_total", (), "Baselines worked out anew.")
REFIT_SECONDS = Family("trueclock_baseline_refit_seconds_total", (), "Time that this took.")
SLOWEST_SAVE = Family("trueclock_stream_slowest_save_seconds", (), "The longest step of a save.")

FORWARDED = Family("trueclock_forwarder_events_total", ("outcome",), "Events that left the log.")
FORWARDED_OUTCOMES = Family("trueclock_forwarder_outcomes_total", ("result",), "Outcomes that left their log.")
FORWARDER_RECORDS = Family("trueclock_forwarder_records_total", (), "Records acknowledged.")
FORWARDER_BYTES = Family("trueclock_forwarder_bytes_total", (), "Their bytes.")
FORWARDER_BACKLOG = Family("trueclock_forwarder_backlog_events", (), "Events not acknowledged.")
FORWARDER_BACKLOG_OUTCOMES = Family("trueclock_forwarder_backlog_outcomes", (), "Outcomes not acknowledged.")
FORWARDER_FAILING = Family("trueclock_forwarder_failing", (), "1 while events do not get on.")
FORWARDER_OUTCOMES_FAILING = Family("trueclock_forwarder_outcomes_failing", (), "1 while outcomes do not get on.")
FORWARDER_ACKNOWLEDGED = Family(
    "trueclock_forwarder_last_acknowledged_timestamp_seconds", (), "When Kafka last acknowledged."
)
FLEET_RECORDS = Family("trueclock_fleet_records_total", (), "Records of baselines that were read.")
FLEET_FAILING = Family("trueclock_fleet_failing", (), "1 while that topic cannot be read.")

OTLP_FAILING = Family("trueclock_otlp_failing", ("signal",), "1 while nothing, or not all, gets to the collector.")
OTLP_SPANS = Family("trueclock_otlp_spans_total", ("outcome",), "Events, by what became of their spans.")
OTLP_POINTS = Family("trueclock_otlp_points_total", ("outcome",), "Data points of metrics.")
OTLP_BACKLOG = Family("trueclock_otlp_backlog_events", (), "Events whose spans are not exported yet.")

TABLES_FAILING = Family("trueclock_stream_tables_failing", (), "1 while changed tables cannot be used.")
STREAM_FAILING = Family("trueclock_stream_failing", (), "1 while records cannot be read or output not be written.")
PARTITIONS = Family("trueclock_stream_partitions", (), "Partitions of its own.")
TOPIC_PARTITIONS = Family("trueclock_stream_topic_partitions", (), "Partitions that the topic has.")
STREAM_LAG = Family("trueclock_stream_lag_records", ("partition",), "Records not dealt with.")
STREAM_LAG_SECONDS = Family("trueclock_stream_lag_seconds", (), "Since the last event dealt with, where more wait.")
STREAM_RECORDS = Family("trueclock_stream_records_total", (), "Records dealt with.")
STREAM_EVENTS = Family("trueclock_stream_events_total", ("outcome",), "Events, by what became of them.")
STREAM_CLAIMS_LOST = Family("trueclock_stream_claims_lost_total", (), "Partitions found claimed by others.")
STREAM_LEFT_OUT = Family("trueclock_stream_window_events_left_out", ("reason",), "Events in no window.")
STREAM_PROBLEM_REQUESTS = Family("trueclock_stream_problem_requests_total", ("result",), "Requests of problems.")
STREAM_UNREADABLE = Family("trueclock_stream_problem_records_unreadable_total", ("topic",), "Records passed over.")
STREAM_PROBLEMS_FAILING = Family("trueclock_stream_problems_failing", (), "1 while strategies are not wholly there.")

PROCESS_CPU = Family("process_cpu_seconds_total", (), "User and system time.")
PROCESS_MEMORY = Family("process_resident_memory_bytes", (), "Resident memory.")
PROCESS_START = Family("process_start_time_seconds", (), "Start, in seconds since 1970.")
