"""Several agents on one store, and a world at the socket that is cheap enough to load them with."""
