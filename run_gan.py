"""Train generators, draw from them: `python run_gan.py --help`."""

from cli.main import main

if __name__ == "__main__":
    main()
