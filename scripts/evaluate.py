"""The verb `rlchat eval` as a script."""

import sys

from rlchat.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["eval", *sys.argv[1:]]))
