"""The public test data that nobody on this project wrote, run against the product.

`python -m tests.conformance [--corpus DIR]` prints one line a set: name, passed, total.
"""
