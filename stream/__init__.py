"""The pure core: events, coefficient tables, T(p, o) and enrichment. Imports no web, Kafka or ML library."""

__version__ = "0.1.0"
