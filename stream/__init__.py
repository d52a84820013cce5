"""The pure core: events, coefficient tables, T(p, o) and enrichment. Imports no web, Kafka or ML library."""
