"""`mailcanary inspect`: one stored message, looked at from every side."""
