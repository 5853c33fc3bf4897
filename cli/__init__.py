"""The commands of run_gan.py, one a file. Nothing here imports PyTorch before a command runs: --help need not wait for it."""
