"""`python -m ledger_cli` is `ledger`."""

from ledger_cli.cli.main import run

if __name__ == "__main__":
    run()
