"""Read and validate the whole environment once; every problem in one message, each naming its variable."""

from mcp_holdfast.settings.effective import MASK, EffectiveValue, effective_settings, without_credentials
from mcp_holdfast.settings.environment import DEFAULT, FILE_PREFIXES, Environment, is_text, read_environment
from mcp_holdfast.settings.loading import load_settings, memory_problems, server_name
from mcp_holdfast.settings.model import Settings, variable_names, variables_of
from mcp_holdfast.settings.problems import EXIT_CONFIG, ConfigurationError, Problem
from mcp_holdfast.settings.values import (
    BROWSERS_OWN_SCHEMES,
    SHORTEST_KEY,
    is_loopback,
    normal_pin,
    parse_duration,
)

__all__ = [
    "BROWSERS_OWN_SCHEMES",
    "DEFAULT",
    "EXIT_CONFIG",
    "FILE_PREFIXES",
    "MASK",
    "SHORTEST_KEY",
    "ConfigurationError",
    "EffectiveValue",
    "Environment",
    "Problem",
    "Settings",
    "effective_settings",
    "is_loopback",
    "is_text",
    "load_settings",
    "memory_problems",
    "normal_pin",
    "parse_duration",
    "read_environment",
    "server_name",
    "variable_names",
    "variables_of",
    "without_credentials",
]
