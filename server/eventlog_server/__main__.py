"""`python -m server`: serve with the settings of the environment."""

from . import run

if __name__ == "__main__":
    run()
