"""What pictures and layers say of position, borders and checkerboards. docs/instruments.md defines each number."""
