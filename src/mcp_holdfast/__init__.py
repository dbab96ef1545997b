"""Holdfast runs an MCP server whose users sign in once."""

__version__ = "0.1.0"
