"""What Prometheus reads in the text of a scrape, and how that differs from an earlier one."""

from prometheus_client.parser import text_string_to_metric_families

from mcp_holdfast import metrics

Series = tuple[str, frozenset[tuple[str, str]]]


class Scrape:
    """The value of each series, by name and labels; names without the `holdfast_` that all of them begin with."""

    def __init__(self, text: str) -> None:
        self.values: dict[Series, float] = {
            (sample.name.removeprefix("holdfast_"), frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    @classmethod
    def here(cls) -> "Scrape":
        """What this process counted."""
        return cls(metrics.exposition().decode())

    def value(self, name: str, **labels: str) -> float:
        return self.values[name, frozenset(labels.items())]

    def increases_since(self, earlier: "Scrape", name: str) -> dict[tuple[str, ...], int]:
        """By how much the series of a counter grew that did, by the values of their labels in the order of names."""
        return {
            tuple(value for _, value in sorted(series[1])): int(now - earlier.values[series])
            for series, now in self.values.items()
            if series[0] == name and now > earlier.values[series]
        }
