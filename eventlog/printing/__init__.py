"""Lines for people and programs on a terminal: events, notes, escaped text. For the command line and the demo."""
