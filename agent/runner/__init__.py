"""What the agent does all day: send, read, judge, look up, evaluate, deliver. Each room one file."""
