"""Each module measures one thing: `measure(scale, progress)` returns a Result."""
