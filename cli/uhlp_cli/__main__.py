"""`python -m uhlp_cli`: the command line without its script on the path."""

from uhlp_cli.main import main

if __name__ == "__main__":
    main()
