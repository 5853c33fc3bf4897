# `make demo` and `make test` set everything up on a fresh machine; repeated, they start at once.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo test clean

demo: $(VENV)/.installed
	$(RUN) run_gan.py train --out runs/quickstart
	$(RUN) run_gan.py evaluate runs/quickstart --count 2000 --real-count 2000 --precision auto
	$(RUN) run_gan.py sample runs/quickstart

test: $(VENV)/.installed
	$(RUN) -m pytest

$(VENV)/.installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --requirement requirements.txt
	touch $@

clean:
	rm -rf $(VENV) runs/quickstart
