"""Clients whose client_id is the URL of a document that describes them (CIMD), alike for every provider.

draft-ietf-oauth-client-id-metadata-document, which MCP's authorization prefers to registration since 2025-11-25.
`documents` has them, `assertions` keeps track of what their clients authenticate with, `acceptance` lets a provider
use both, `detection` finds out whether this server can fetch any.
"""
