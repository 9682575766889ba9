"""`python -m federation.broker`: what is in the broker, see `federation.broker.commands`."""

import sys

from federation.broker.commands import main

sys.exit(main(sys.argv[1:]))
