"""The verb `rlchat chat` as a script."""

import sys

from rlchat.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["chat", *sys.argv[1:]]))
