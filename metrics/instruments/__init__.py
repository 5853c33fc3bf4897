"""Instruments: measurements of shift, borders and checkerboards in images and layers. docs/instruments.md defines each number."""
