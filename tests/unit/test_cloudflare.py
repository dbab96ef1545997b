"""HOLDFAST_CLOUDFLARE_*: a team alone or an audience alone would let in whom nobody meant, so both are needed."""

import pytest

from mcp_holdfast.settings import Settings, load_settings, read_environment


def settings_of(**environ: str) -> tuple[Settings, list[str]]:
    environment, problems = read_environment(environ)
    settings, more = load_settings(environment)
    return settings, [str(problem) for problem in [*problems, *more]]


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("HOLDFAST_CLOUDFLARE_TEAM", "", "is set to nothing"),
        ("HOLDFAST_CLOUDFLARE_TEAM_FILE", "", "is set to nothing"),
        ("HOLDFAST_CLOUDFLARE_TEAM", "people", "is set without HOLDFAST_CLOUDFLARE_AUDIENCE"),
        ("HOLDFAST_CLOUDFLARE_TEAM", "https://people.example.com", "is not the name of a team"),
        ("HOLDFAST_CLOUDFLARE_TEAM", "evil.test/x", "is not the name of a team"),
        ("HOLDFAST_CLOUDFLARE_AUDIENCE", "a" * 64, "is set without HOLDFAST_CLOUDFLARE_TEAM"),
        ("HOLDFAST_CLOUDFLARE_AUDIENCE", "mine", "is not an application's audience tag"),
        ("HOLDFAST_CLOUDFLARE_AUDIENCE", "", "is set to nothing"),
        ("HOLDFAST_CLOUDFLARE_AUDIENCE", " , ", "names nobody"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_told(variable: str, value: str, says: str) -> None:
    _, problems = settings_of(**{variable: value})
    assert any(problem.startswith(f"{variable}: ") and says in problem for problem in problems)


@pytest.mark.parametrize("given", ["people", "PEOPLE", "https://people.cloudflareaccess.com/", " people "])
def test_a_team_is_known_by_its_name_or_its_domain(given: str) -> None:
    settings, problems = settings_of(
        HOLDFAST_CLOUDFLARE_TEAM=given, HOLDFAST_CLOUDFLARE_TEAM_FILE="", HOLDFAST_CLOUDFLARE_AUDIENCE="a" * 64
    )
    assert (settings.cloudflare_team, problems) == ("people", [])
