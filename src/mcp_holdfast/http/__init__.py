"""The ASGI application round the MCP server."""
