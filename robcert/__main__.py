"""`python -m robcert`, where the script of that name is not in the path."""

from robcert.cli.main import run

if __name__ == "__main__":
    run()
