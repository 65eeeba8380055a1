"""One thin class an algorithm: its words and parameters. The work is in `engine/tasks/`."""
