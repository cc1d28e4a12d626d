"""The command ``xsphere`` as ``python -m xsphere``."""

from xsphere.cli import main

if __name__ == "__main__":
    main()
