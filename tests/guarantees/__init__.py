"""Proofs of what mailcanary promises, one module each: quick forms by pytest, full forms by `make soak`."""
