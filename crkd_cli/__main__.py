"""``python -m crkd_cli`` is ``crkd``; the launcher of several processes uses it."""

from crkd_cli.app import main

if __name__ == "__main__":
    main()
