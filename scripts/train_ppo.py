"""The verb `rlchat train` as a script, for `accelerate launch` and `torchrun`."""

import sys

from rlchat.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
