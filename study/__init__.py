"""Studies: rows of settings x seeds, run, analysed and reported."""
