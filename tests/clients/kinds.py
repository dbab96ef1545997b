"""Every kind of client that the tests have."""

from clients.client import Client
from clients.commands import ClaudeCode, Codex, GeminiCLI, Inspector, Mcporter
from clients.conversing import FastMCPClient, McpRemote, PythonSDK, TypeScriptSDK

KINDS: tuple[type[Client], ...] = (
    FastMCPClient,
    PythonSDK,
    TypeScriptSDK,
    McpRemote,
    Inspector,
    Mcporter,
    ClaudeCode,
    Codex,
    GeminiCLI,
)
