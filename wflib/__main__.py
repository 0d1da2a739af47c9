"""``python -m wflib``: the console command."""

from wflib.command import app

if __name__ == "__main__":
    app()
