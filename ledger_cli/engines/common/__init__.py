"""Shared by the engines."""
