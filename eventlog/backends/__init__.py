"""The three kinds of log behind one Protocol (`base.py`): `redis`, `memory`, `disabled`."""
