"""`python -m pyimplicit`: the command line without an installed script."""

import sys

from pyimplicit.cli import main

if __name__ == "__main__":
    sys.exit(main())
