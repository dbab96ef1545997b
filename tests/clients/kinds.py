"""Every kind of client that the tests have, in two groups: they go through each story side by side."""

from clients.client import Client
from clients.commands import ClaudeCode, Codex, GeminiCLI, Inspector, Mcporter
from clients.conversing import FastMCPClient, McpRemote, PythonSDK, TypeScriptSDK

Kinds = tuple[type[Client], ...]

IN_EVERY_RUN: Kinds = (FastMCPClient, PythonSDK, TypeScriptSDK, McpRemote, ClaudeCode)
OTHERS: Kinds = (Inspector, Mcporter, Codex, GeminiCLI)
KINDS = (*IN_EVERY_RUN, *OTHERS)
