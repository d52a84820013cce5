"""The gateway: an asynchronous proxy that passes LLM traffic on byte for byte and records one event a request."""
