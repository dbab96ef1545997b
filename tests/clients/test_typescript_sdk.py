"""The client of the official TypeScript SDK."""

from clients.story import NODE, PROGRAMS, SignsInOnce


class TestTypeScriptSDK(SignsInOnce):
    def command(self, url: str) -> list[str]:
        return [NODE, str(PROGRAMS / "typescript_client.mjs"), url]
