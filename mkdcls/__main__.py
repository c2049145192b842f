"`python -m mkdcls …` is the command `mkdcls …`; `accelerate launch -m mkdcls train …` needs the package to be one"
import sys

from mkdcls.results.cli import main

if __name__ == "__main__": sys.exit(main())
