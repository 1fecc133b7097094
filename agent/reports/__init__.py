"""What people are told of the store's contents: one value each for the terminal, the page and JSON."""
