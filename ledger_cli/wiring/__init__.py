"""The only place that names concrete adapters: URL scheme or format -> import path."""
