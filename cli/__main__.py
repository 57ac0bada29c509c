"""`python -m ftwt_cli`, which torchrun can start as well: `torchrun -m ftwt_cli train ...`."""

from .app import main

if __name__ == "__main__":
    main()
