"""A small mail world in one process, and a story that the unmodified agent must find out by itself."""
