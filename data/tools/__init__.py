"""What the `data` command does: pack, export, glance."""
