"""Who works on the store, and who does what of the work. One agent is a fleet of one."""
