"""Read and validate the whole environment once; every problem in one message, each naming its variable."""

from mcp_holdfast.settings.access import normal_domain, normal_user
from mcp_holdfast.settings.clients import ClientSettings
from mcp_holdfast.settings.effective import MASK, EffectiveValue, effective_settings, without_credentials
from mcp_holdfast.settings.entries import check_scope
from mcp_holdfast.settings.environment import DEFAULT, FILE_PREFIXES, Environment, is_text, read_environment
from mcp_holdfast.settings.loading import load_settings, memory_problems, server_name
from mcp_holdfast.settings.model import Settings, variable_names, variables_of
from mcp_holdfast.settings.problems import EXIT_CONFIG, ConfigurationError, Problem
from mcp_holdfast.settings.telemetry import telemetry_problems, telemetry_warnings, wants_traces
from mcp_holdfast.settings.tokens import NEVER, TokenSettings, check_name
from mcp_holdfast.settings.values import (
    BROWSERS_OWN_SCHEMES,
    SHORTEST_KEY,
    authority_of,
    is_loopback,
    normal_pin,
    origin_of,
    parse_duration,
    redirect_uri_problem,
    without_usual_port,
)

__all__ = [
    "BROWSERS_OWN_SCHEMES",
    "DEFAULT",
    "EXIT_CONFIG",
    "FILE_PREFIXES",
    "MASK",
    "NEVER",
    "SHORTEST_KEY",
    "ClientSettings",
    "ConfigurationError",
    "EffectiveValue",
    "Environment",
    "Problem",
    "Settings",
    "TokenSettings",
    "authority_of",
    "check_name",
    "check_scope",
    "effective_settings",
    "is_loopback",
    "is_text",
    "load_settings",
    "memory_problems",
    "normal_domain",
    "normal_pin",
    "normal_user",
    "origin_of",
    "parse_duration",
    "read_environment",
    "redirect_uri_problem",
    "server_name",
    "telemetry_problems",
    "telemetry_warnings",
    "variable_names",
    "variables_of",
    "wants_traces",
    "without_credentials",
    "without_usual_port",
]
