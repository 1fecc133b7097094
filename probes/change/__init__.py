"""Before and after: what a round of canaries says beside an earlier one, and how sure that is. Pure."""
