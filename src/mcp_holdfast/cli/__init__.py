"""The `holdfast` command. Each file beside this one holds a group of subcommands, loaded when one of them is used."""

from mcp_holdfast import __version__
from mcp_holdfast.libraries import importing_libraries

with importing_libraries():
    from cyclopts import App

COMMANDS = {
    "server:serve": "Start the server; arguments go to gunicorn.",
    "server:check": "Check the configuration and start nothing.",
    "doctor:doctor": "Look at all that a server depends on, where it is to run: limits, volume, provider, public URL.",
    "clients:clients": "List the clients that registered or are configured, and how many sessions each has.",
    "sessions:sessions": "List who is signed in with which client, and until when.",
    "sessions:revoke": "End sessions: of a client, of a user, one or all.",
    "tokens:tokens": "List the bearer tokens of machines, make one, revoke one.",
    "importing:import_": "Carry over registrations and sessions of another server, so that nobody signs in again.",
    "backup:backup": "Copy the store into a file while servers run.",
    "backup:restore": "Put a backup into an empty store.",
    "rotation:rotate": "Seal the store with a new key while servers run.",
    "schema:schema": "Print the SQL that makes an engine's table, for a DBA to run.",
    "upkeep:sweep": "Remove expired records and what was left behind, and tell what was removed so far.",
}

main = App(name="holdfast", help="Runs an MCP server whose users sign in once.", version=__version__)
for place, what in COMMANDS.items():
    main.command(f"{__name__}.{place}", help=what)

fargate = App(name="fargate", help="Prepare a deployment to AWS Fargate.")
fargate.command(f"{__name__}.fargate:render", help="Print the task definition with your values in it.")
main.command(fargate)
