"""The configuration: `load.load(path)` gives one immutable `models.Config`, or every problem at once."""
